"""Barrier: the loss along the straight segments between models, and between each model and the base."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean

import torch
from torch import Tensor, nn

from equipoise.core.problem import Problem
from equipoise.merging.engine import Memory, run
from equipoise.merging.matching import Vocab
from equipoise.merging.plan import plan
from equipoise.merging.source import Checkpoint
from equipoise.merging.taskarithmetic import TaskArithmetic

State = Mapping[str, Tensor]
Evaluate = Callable[[dict[str, Tensor]], Mapping[str, float | Tensor]]
"""A `state_dict` -> the loss of each objective; lower is better."""

Losses = dict[str, float]


@dataclass(frozen=True, slots=True)
class Segment:
    """Losses along theta(alpha) = (1 - alpha) start + alpha end; `end` is None for the base.

    curve: at each alpha the mean over `objectives`, those that the two models are called after, else all.
    barrier: the maximum over alpha of curve(alpha) - ((1 - alpha) curve(0) + alpha curve(1)), at `alpha`.
    distance: |start - end| / |theta_0|.
    """

    start: str
    end: str | None
    objectives: tuple[str, ...]
    alphas: tuple[float, ...]
    losses: Mapping[str, tuple[float, ...]]
    curve: tuple[float, ...]
    barrier: float
    alpha: float
    distance: float

    @property
    def relative(self) -> float | None:
        """The barrier over the distance; None where there is no distance."""
        return self.barrier / self.distance if self.distance else None


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Losses by objective of the base, each model, and the plain average of the models; and the segments.

    `metrics` has the same for what a problem reports of each objective, `better` which way is better.
    """

    objectives: tuple[str, ...]
    base: Losses
    models: Mapping[str, Losses]
    average: Losses
    segments: tuple[Segment, ...]
    metrics: Mapping[str, Losses] | None = None
    """"base", "average" -> the metric of each objective."""
    labels: Mapping[str, tuple[str, str]] | None = None
    """Objective -> the name of its metric, and "higher" or "lower"."""


class ProblemLosses:
    """Evaluates on validation batches of a problem.

    `renew` batches of training data renew the running statistics of what was interpolated, in a model that
    keeps any (batch normalisation): those of the ends do not fit the activations between them.
    """

    def __init__(self, problem: Problem, renew: int) -> None:
        self.problem, self.renew = problem, renew
        problem.prepare()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = problem.model()

    def load(self, state: State, *, renewed: bool) -> None:
        """Put a `state_dict` into the model, in evaluation mode."""
        try:
            self.model.load_state_dict(dict(state))
        except RuntimeError as error:
            kind = type(self.problem).__name__
            raise ValueError(
                f"the model of problem {kind} does not take the checkpoints' tensors: {error}"
            ) from error
        if renewed and self.renew:
            _renew(self.problem, self.model, self.renew)
        self.model.eval()

    @torch.no_grad()
    def losses(self) -> Losses:
        """The mean loss of each objective over the validation batches."""
        found: dict[str, list[float]] = {}
        for batch in self.problem.batches("validation", None):
            for name, loss in self.problem.losses(self.model, batch).items():
                found.setdefault(name, []).append(float(loss))
        if not found:
            raise ValueError(f"problem {type(self.problem).__name__} has no validation batches")
        return {name: fmean(values) for name, values in found.items()}

    @torch.no_grad()
    def metrics(self) -> Losses:
        """The metric of each objective on the validation split."""
        return {name: float(value) for name, value in self.problem.evaluate(self.model, "validation").items()}


class FunctionLosses:
    """Evaluates by a function of a `state_dict`."""

    def __init__(self, evaluate: Evaluate) -> None:
        self.evaluate = evaluate
        self.state: State = {}

    def load(self, state: State, *, renewed: bool) -> None:
        self.state = state

    def losses(self) -> Losses:
        return {name: float(loss) for name, loss in self.evaluate(dict(self.state)).items()}

    def metrics(self) -> None:
        return None


def evaluations(
    checkpoints: Mapping[str, Checkpoint],
    base: Checkpoint,
    losses: ProblemLosses | FunctionLosses,
    *,
    points: int,
    differences: Sequence[Sequence[float | None]],
    distances: Sequence[float | None],
    threads: int,
    vocab: Vocab,
) -> Evaluations:
    """Evaluate base, models, average and segments; one model is held in memory at a time.

    Raises ValueError where losses are not finite or not of the same objectives everywhere.
    """
    names = tuple(checkpoints)
    whole = [{}, *({name: 1.0} for name in names)]
    found: dict[str, Losses] = {}
    expected: list[str] = []

    def at(weights: Mapping[str, float], words: str) -> Losses:
        losses.load(_state(checkpoints, base, weights, threads, vocab), renewed=weights not in whole)
        seen = losses.losses()
        expected[:] = expected or list(seen)
        if set(seen) != set(expected):
            raise ValueError(f"losses at {words} are of {list(seen)}, at the base of {expected}")
        if wrong := [name for name, loss in seen.items() if not isfinite(loss)]:
            raise ValueError(f"the loss of {', '.join(wrong)} is not finite at {words}")
        return seen

    origin = at({}, "the base")
    metrics = losses.metrics()
    for name in names:
        found[name] = at({name: 1.0}, name)
    average = at({name: 1 / len(names) for name in names}, "the average of all models")
    both = None if metrics is None else {"base": metrics, "average": losses.metrics() or {}}
    alphas = tuple(k / (points - 1) for k in range(points))
    segments = []
    ends = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    for i, j in [*ends, *((i, None) for i in range(len(names)))]:
        start, end = names[i], None if j is None else names[j]
        inner = [
            at(
                {start: 1 - alpha} | ({end: alpha} if end else {}),
                f"{alpha:g} from {start} to {end or 'base'}",
            )
            for alpha in alphas[1:-1]
        ]
        seen = [found[start], *inner, found[end] if end else origin]
        distance = distances[i] if j is None else differences[i][j]
        segments.append(_segment(start, end, alphas, seen, expected, distance or 0.0))
    labels = None
    if isinstance(losses, ProblemLosses):
        labels = {name: (metric.name, metric.better) for name, metric in losses.problem.metrics.items()}
    return Evaluations(tuple(expected), origin, found, average, tuple(segments), both, labels)


def _segment(
    start: str,
    end: str | None,
    alphas: Sequence[float],
    seen: Sequence[Losses],
    objectives: Sequence[str],
    distance: float,
) -> Segment:
    own = (start,) if end is None else (start, end)
    judged = own if set(own) <= set(objectives) else tuple(objectives)
    curve = tuple(fmean(losses[name] for name in judged) for losses in seen)
    rises = [
        loss - ((1 - alpha) * curve[0] + alpha * curve[-1]) for alpha, loss in zip(alphas, curve, strict=True)
    ]
    barrier = max(0.0, *rises[1:-1])
    return Segment(
        start,
        end,
        judged,
        tuple(alphas),
        {name: tuple(losses[name] for losses in seen) for name in objectives},
        curve,
        barrier,
        alphas[rises.index(barrier)] if barrier in rises[1:-1] else 0.0,
        distance,
    )


def _state(
    checkpoints: Mapping[str, Checkpoint],
    base: Checkpoint,
    weights: Mapping[str, float],
    threads: int,
    vocab: Vocab,
) -> dict[str, Tensor]:
    """theta_0 + sum_i w_i (theta_i - theta_0), in memory, as the base stores it."""
    some = {name: checkpoints[name] for name in weights} or dict(checkpoints)
    rule = TaskArithmetic(weight=dict(weights) or 0.0).bound(tuple(some))
    planned = plan(some, base, lambda _: rule, on_missing="base", vocab=vocab)
    memory = Memory(planned)
    run(planned, memory, threads=threads)
    return memory.tensors


@torch.no_grad()
def _renew(problem: Problem, model: nn.Module, batches: int) -> None:
    """Put the plain mean over some training batches in the place of running statistics.

    Source: Izmailov et al. 2018 (arXiv 1803.05407), section 3.2, for averages of weights.
    """
    kept = [
        layer for layer in model.modules() if isinstance(getattr(layer, "running_mean", None), torch.Tensor)
    ]
    if not kept:
        return
    momenta = [layer.momentum for layer in kept]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.train()
        for layer in kept:
            layer.reset_running_stats()  # pyright: ignore[reportCallIssue]
            layer.momentum = None  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
        order = torch.Generator().manual_seed(0)
        for _, batch in zip(range(batches), problem.batches("train", order), strict=False):
            problem.losses(model, batch)
    for layer, momentum in zip(kept, momenta, strict=True):
        layer.momentum = momentum  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
