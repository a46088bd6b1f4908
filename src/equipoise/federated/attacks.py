"""Attacks, to test defences with: what a client sends in place of its honest reply, or learns from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from equipoise.core.errors import unknown
from equipoise.core.federation import Examples, Federation
from equipoise.core.problem import Metric, Split
from equipoise.federated.clientalgorithm import Tensors
from equipoise.federated.engine.task import Trained

RANKS = "ranks/"
"""Under these names clients send rankings."""


class Attack:
    """Turns the honest work of a client into what it sends; a subclass overrides `replies`.

    It sees one client's work alone: clients that attack together know of each other what their data say.
    """

    def replies(self, honest: Trained, generator: torch.Generator) -> list[Trained]:
        """What arrives at the server: none, one or several replies.

        Raises ValueError naming the client where the system sends nothing of the kind that is attacked.
        """
        raise NotImplementedError


class FreeRider(Attack):
    """Does no work: each number of its update is drawn evenly from [-size, size], 1 in Xu and Lyu 2020."""

    def __init__(self, size: float = 1.0) -> None:
        if not size > 0:
            raise ValueError(f"size is {size}; it is above 0")
        self.size = size

    def replies(self, honest: Trained, generator: torch.Generator) -> list[Trained]:
        update = {
            name: self.size * (2 * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) - 1)
            for name, tensor in _update(honest, self).items()
        }
        return [
            _sending(honest, {name: t.to(honest.reply.update[name].device) for name, t in update.items()})
        ]


class Rescale(Attack):
    """Sends its update times `factor`."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def replies(self, honest: Trained, generator: torch.Generator) -> list[Trained]:
        return [_sending(honest, {name: self.factor * t for name, t in _update(honest, self).items()})]


class SignFlip(Rescale):
    """Sends its update backwards, `factor` times as long, 1 by default."""

    def __init__(self, factor: float = 1.0) -> None:
        if not factor > 0:
            raise ValueError(f"factor is {factor}; it is above 0, and the sign is turned besides")
        super().__init__(-factor)


class NotANumber(Attack):
    """Sends NaN in the first number of every tensor of its update, or of what it sends in place of one."""

    def replies(self, honest: Trained, generator: torch.Generator) -> list[Trained]:
        reply = honest.reply
        if reply.update:
            return [_sending(honest, _spoilt(reply.update))]
        if not any(tensor.is_floating_point() for tensor in reply.sent.values()):
            raise ValueError(_nothing(honest, self, "floating-point numbers"))
        return [replace(honest, reply=replace(reply, sent=_spoilt(reply.sent)))]


class RankReverse(Attack):
    """Sends its rankings the wrong way round, for systems in which clients rank (`FRL`)."""

    def replies(self, honest: Trained, generator: torch.Generator) -> list[Trained]:
        sent = dict(honest.reply.sent)
        ranks = [name for name in sent if name.startswith(RANKS)]
        if not ranks:
            raise ValueError(_nothing(honest, self, "rankings"))
        for name in ranks:
            sent[name] = sent[name].long().flip(-1).to(sent[name].dtype)
        return [replace(honest, reply=replace(honest.reply, sent=sent))]


class Duplicate(Attack):
    """Sends its honest reply `times` times, to count for more than one."""

    def __init__(self, times: int = 2) -> None:
        if times < 2:
            raise ValueError(f"times is {times}; it is at least 2")
        self.times = times

    def replies(self, honest: Trained, generator: torch.Generator) -> list[Trained]:
        return [honest] * self.times


class Silent(Attack):
    """Never answers."""

    def replies(self, honest: Trained, generator: torch.Generator) -> list[Trained]:
        return []


@dataclass
class LabelFlip(Federation):
    """A federation of which some clients learn from wrong labels: examples of class a are called b.

    flips: {client: (a, b)}. Their training examples alone are changed, so that what is measured on validation
    and test examples stays true. It is a federation as any other, for the simulator as for Flower.

    Raises ValueError for a client that there is not, or classes that are the same.

    >>> from equipoise.problems import federation
    >>> spoilt = LabelFlip(federation("digits-clients"), {"client-03": (1, 7)})
    >>> int(spoilt.label_counts("client-03")[1])
    0
    """

    federation: Federation
    flips: Mapping[str, tuple[int, int]]
    _spoilt: dict[str, Examples] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, (before, after) in self.flips.items():
            if name not in self.federation.clients:
                raise ValueError(unknown("client", name, self.federation.clients))
            if before == after:
                raise ValueError(f"flips[{name!r}] is ({before}, {after}); the two classes differ")

    @property
    def metric(self) -> Metric:  # pyright: ignore[reportIncompatibleVariableOverride] - that of another federation
        return self.federation.metric

    @property
    def learning_rate(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride] - likewise
        return self.federation.learning_rate

    @property
    def clients(self) -> tuple[str, ...]:
        return self.federation.clients

    def prepare(self) -> None:
        self.federation.prepare()

    def model(self) -> nn.Module:
        return self.federation.model()

    def examples(self, client: str, split: Split) -> Examples:
        if split != "train" or client not in self.flips:
            return self.federation.examples(client, split)
        if client not in self._spoilt:
            *inputs, labels = self.federation.examples(client, "train")
            before, after = self.flips[client]
            self._spoilt[client] = (*inputs, torch.where(labels == before, after, labels))
        return self._spoilt[client]

    def losses(self, model: nn.Module, batch: Examples) -> Tensor:  # -> (n,)
        return self.federation.losses(model, batch)

    def scores(self, model: nn.Module, batch: Examples) -> Tensor:  # -> (n,)
        return self.federation.scores(model, batch)


def _update(honest: Trained, attack: Attack) -> Tensors:
    """The client's update; raises ValueError where it sends none."""
    if not honest.reply.update:
        raise ValueError(_nothing(honest, attack, "update"))
    return honest.reply.update


def _sending(honest: Trained, update: Tensors) -> Trained:
    return replace(honest, reply=replace(honest.reply, update=update))


def _spoilt(tensors: Tensors) -> Tensors:
    """Copies with NaN as the first number of each tensor that can hold one."""
    found = {name: tensor.clone() for name, tensor in tensors.items()}
    for tensor in found.values():
        if tensor.is_floating_point() and tensor.numel():
            tensor.view(-1)[0] = torch.nan
    return found


def _nothing(honest: Trained, attack: Attack, what: str) -> str:
    return f"{type(attack).__name__} of client {honest.client!r}: this system has it send no {what}"
