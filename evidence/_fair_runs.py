"""Federated runs for the experiments on fairness between clients: measures, and tuning on validation data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import mean, pstdev

import torch
from torch import Tensor, nn

from equipoise.core.federation import Federation
from equipoise.core.problem import Split
from equipoise.federated import Algorithm, ClientAlgorithm, Local, Outcome, Round, ServerAlgorithm, federate
from equipoise.federated.clientalgorithm import Tensors
from equipoise.federated.engine.measure import evaluate
from equipoise.problems.digitsclients import DigitsClients
from equipoise.problems.mnistclients import MnistClients

TUNING = 1000  # seeds from here on are for tuning


class SmallMnist(MnistClients):
    """MNIST at 14 x 14 pixels, for a 196-64-10 network."""

    hidden = 64
    shape = (1, 14, 14)
    networks = ("softmax", "mlp")

    def parts(self) -> Mapping[Split, tuple[Tensor, Tensor]]:
        return _mnist(self.split_seed)

    def scaled(self, images: Tensor) -> Tensor:  # (n, 28, 28) uint8 -> (n, 1, 14, 14) in [0, 1]
        return nn.functional.avg_pool2d(super().scaled(images), 2)


@lru_cache(maxsize=2)
def _mnist(seed: int) -> Mapping[Split, tuple[Tensor, Tensor]]:
    return MnistClients(split_seed=seed).parts()


@lru_cache(maxsize=8)
def clients(data: str, split: str, network: str, seed: int) -> Federation:
    """Ten clients; the seed deals the images."""
    if data == "digits":
        return DigitsClients(split=split, network=network, split_seed=seed)  # pyright: ignore[reportArgumentType]
    return SmallMnist(split=split, network=network, train=1000, judged=150, split_seed=seed)  # pyright: ignore[reportArgumentType]


class Tchebycheff(Algorithm):
    """The baseline of the worst client alone: the next model is that of the client with the largest loss."""

    def __init__(self) -> None:
        super().__init__(ClientAlgorithm(), WorstClient())


class WorstClient(ServerAlgorithm):
    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        weights = torch.zeros(len(round.names), dtype=torch.float64)
        weights[round.side["loss_during"].argmax()] = 1
        return Outcome(round.bundle.combine(weights), state, weights)


@dataclass(frozen=True)
class Setting:
    """A rate of local training, and the system in words and made."""

    rate: float
    words: str
    make: Callable[[], Algorithm]


@dataclass(frozen=True)
class Measures:
    """Accuracies in per cent and losses over clients."""

    accuracy: float
    worst: float
    agnostic: float
    parity: float

    @classmethod
    def of(cls, judged: Mapping[str, Mapping[str, float]]) -> "Measures":
        scores = [100 * one["score"] for one in judged.values()]
        losses = [one["loss"] for one in judged.values()]
        return cls(mean(scores), min(scores), max(losses), pstdev(scores))


@dataclass
class Place:
    """Where systems are compared: data, split, network, and how clients train."""

    data: str
    split: str
    network: str
    rounds: int
    steps: int
    known: dict[tuple[str, float, str, int], dict[str, dict[str, Measures]]] = field(default_factory=dict)

    def measured(self, name: str, setting: Setting, seed: int) -> dict[str, dict[str, Measures]]:
        """{part: {output: measures}} of one run; a run that diverged has none."""
        key = (name, setting.rate, setting.words, seed)
        if key not in self.known:
            self.known[key] = self._measured(setting, seed)
        return self.known[key]

    def _measured(self, setting: Setting, seed: int) -> dict[str, dict[str, Measures]]:
        on = clients(self.data, self.split, self.network, seed)
        local = Local(steps=self.steps, batch_size=None, learning_rate=setting.rate)
        try:
            done = federate(
                on,
                setting.make(),
                rounds=self.rounds,
                local=local,
                seed=seed,
                batching="batched",
                test=False,
                evaluate_every=self.rounds,
            )
        except (ValueError, RuntimeError):  # not finite
            return {"validation": {}, "test": {}}
        models = {"last": done.model, **done.outputs}
        return {
            part: {
                name: Measures.of(evaluate(on, dict.fromkeys(on.clients, model), on.clients, part))
                for name, model in models.items()
            }
            for part in ("validation", "test")
        }

    def tuned(
        self,
        name: str,
        output: str,
        settings: Sequence[Setting],
        cost: Callable[[Measures], float],
        seeds: int,
    ) -> Setting:
        """The setting of the least mean cost of one output on validation data, on seeds of their own."""

        def score(setting: Setting) -> float:
            found = [
                self.measured(name, setting, TUNING + seed)["validation"].get(output) for seed in range(seeds)
            ]
            return mean(cost(one) if one is not None else float("inf") for one in found)

        return min(settings, key=score)

    def tests(self, name: str, output: str, setting: Setting, seeds: int) -> list[Measures]:
        """Of the seeds that are reported, on test data."""
        return [self.measured(name, setting, seed)["test"][output] for seed in range(seeds)]
