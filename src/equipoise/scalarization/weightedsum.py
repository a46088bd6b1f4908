"""A sum of the losses under weights that are given, and may move with the steps or epochs."""

from collections.abc import Callable, Mapping, Sequence
from math import cos, pi
from typing import Literal, get_args

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.errors import unknown
from equipoise.core.keyed import by_name, numbered
from equipoise.core.rule import LossesAfter, Scalarizer
from equipoise.core.step import Step

CARD = Card(
    name="WeightedSum",
    shape="scalarizer",
    summary="Minimises the sum of the losses under given weights, fixed or on a schedule.",
    formula="sum_i w_i(t) f_i, w(t) = start + (end - start) s(t)",
    guarantees=(
        "PERMUTATION",
        "HOMOGENEOUS(1)",
        "LINEAR_IN_ROW_SCALE",
        "NON_NEGATIVE",
        "CONVEX",
    ),
    single="the direction times its weight",
    cost="one backward pass",
    use="for weights that are known beforehand: an auxiliary loss to fade out, a penalty to bring in",
    avoid="for trade-offs to be found: Linear takes a preference, other rules find the weights",
    status="main",
)

Schedule = Literal["constant", "linear", "cosine", "step"]
Weights = float | Mapping[str, float]


class WeightedSum(Scalarizer):
    """The sum of the losses under weights of the objectives' own, which may follow a schedule.

    sum_i w_i(t) f_i with f `losses` and w(t) = start + (end - start) s(t), where `start` and `end` are one
    number or one for each objective by name, and t counts what has passed of `over` steps or epochs
    (`every`), from 0 to 1. s(t) is 0 ("constant"), t ("linear"), (1 - cos pi t) / 2 ("cosine"), 0 until
    t = 1 and then 1 ("step"), or any function of t. After `over` it stays at s(1).

    Use it where weights are known beforehand. Linear is the rule for a preference: that is a point of the
    simplex which the caller gives for each step, and its sum a mean; here weights belong to the rule, need
    not sum to one, and by default (all 1) give the sum.

    The clock is a buffer, moves in `update`, and only where there is an `end`. Raises ValueError for a
    negative weight (it would drive a loss up), an unknown schedule, and naming an objective that a mapping
    lacks.

    >>> rule = WeightedSum(start={"main": 1.0, "aside": 0.5}, end={"main": 1.0, "aside": 0.0}, over=10)
    >>> rule(torch.tensor([2.0, 4.0]), names=("main", "aside"))
    tensor(4.)
    """

    clock: Tensor

    def __init__(
        self,
        *,
        start: Weights = 1.0,
        end: Weights | None = None,
        schedule: Schedule | Callable[[float], float] = "linear",
        over: int = 1000,
        every: Literal["step", "epoch"] = "step",
    ) -> None:
        super().__init__()
        if not callable(schedule) and schedule not in get_args(Schedule):
            raise ValueError(f"{unknown('schedule', schedule, get_args(Schedule))}, or a function of t")
        if over < 1:
            raise ValueError(f"over is {over}; it counts steps or epochs, at least 1")
        if every not in ("step", "epoch"):
            raise ValueError(f'every is {every!r}; it is "step" or "epoch"')
        for option, weights in {"start": start, "end": start if end is None else end}.items():
            for name, weight in (weights if isinstance(weights, Mapping) else {"all": weights}).items():
                if not weight >= 0:
                    raise ValueError(f"{option} is {weight} for {name!r}; a weight is 0 or more")
        self.start = start
        self.end = end
        self.schedule = schedule
        self.over = over
        self.every = every
        self.register_buffer("clock", torch.zeros((), dtype=torch.int64))

    def extra_repr(self) -> str:
        return (
            f"start={self.start}, end={self.end}, schedule={self.schedule!r}, over={self.over} {self.every}s"
        )

    def weights(self, names: Sequence[str]) -> Tensor:  # -> (m,) float64
        """The weights of `names` at present; raises ValueError naming one that a function made negative."""
        start = by_name(self.start, names)
        if self.end is None:
            return start
        found = start + (by_name(self.end, names) - start) * self._share()
        if not bool((found >= 0).all()):
            bad = [f"{n!r} = {w:g}" for n, w in zip(names, found.tolist(), strict=True) if not w >= 0]
            raise ValueError(
                f"the schedule gives weights below 0: {', '.join(bad)}; s(t) lies between 0 and 1"
            )
        return found

    def forward(self, losses: Tensor, *, names: Sequence[str] | None = None) -> Tensor:  # (m,) -> ()
        return (self.weights(numbered(names, losses.numel())).to(losses) * losses).sum()

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        if self.end is not None and (self.every == "step" or epoch_ended):
            self.clock += 1

    def _share(self) -> float:
        passed = min(int(self.clock) / self.over, 1.0)
        if callable(self.schedule):
            return float(self.schedule(passed))
        return {
            "constant": 0.0,
            "linear": passed,
            "cosine": (1 - cos(pi * passed)) / 2,
            "step": float(passed >= 1),
        }[self.schedule]
