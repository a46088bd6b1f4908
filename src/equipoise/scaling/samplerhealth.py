"""Health: what has become of the ratios of a schedule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.scaling.runs import Array

SETTLED = 0.01
"""By how much the mean of a ratio may still move in the last tenth of the steps."""
POINTS = 40
"""How many points of the past are kept at most."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a sampler has done so far.

    steps: so many. average: the mean of the ratios. effective: exp of their entropy, between 1 and m. drift:
    by how much each mean moved in the last tenth of the steps. counts: examples dealt. missing: objectives
    without any.
    """

    steps: int
    average: dict[str, float]
    effective: float
    drift: dict[str, float]
    counts: dict[str, int]

    @property
    def missing(self) -> tuple[str, ...]:
        """Objectives that were never seen."""
        return tuple(name for name, count in self.counts.items() if not count)

    @property
    def settled(self) -> bool:
        """Whether no mean moved by 0.01 or more in the last tenth of the steps."""
        return self.steps > 0 and max(self.drift.values()) < SETTLED

    def __str__(self) -> str:
        if not self.steps:
            return "no step yet"
        told = ", ".join(f"{name} {ratio:.3f}" for name, ratio in self.average.items())
        moved = max(self.drift, key=self.drift.__getitem__)
        state = "settled" if self.settled else "not settled"
        lines = [
            f"mean ratios of {self.steps} steps: {told}",
            f"as even as {self.effective:.1f} of {len(self.average)}",
            f"{state}: {moved} moved by {self.drift[moved]:.4f} in the last tenth",
        ]
        if self.effective < 1.5 and len(self.average) > 1:
            lines.append("nearly all goes to one objective")
        if self.missing:
            lines.append(f"never seen: {', '.join(self.missing)}")
        return "\n".join(lines)


class Course:
    """Sums of ratios and counts over the steps, with some points of the past."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.steps, self.every = 0, 1
        self.sum = [0.0] * len(names)
        self.counts = [0] * len(names)
        self.past: list[tuple[int, list[float]]] = []

    @property
    def average(self) -> Array:  # -> (m,)
        """The mean of the ratios."""
        return np.array(self.sum) / max(self.steps, 1)

    def note(self, p: list[float], counts: list[int]) -> None:
        """A step more."""
        self.sum = [total + share for total, share in zip(self.sum, p, strict=True)]
        self.counts = [total + count for total, count in zip(self.counts, counts, strict=True)]
        self.steps += 1
        if self.steps % self.every == 0:
            self.past.append((self.steps, self.sum))
            if len(self.past) > POINTS:
                self.past, self.every = self.past[1::2], 2 * self.every

    def health(self) -> Health:
        """What is to be said of them."""
        average = self.average
        some = average[average > 0]
        return Health(
            self.steps,
            dict(zip(self.names, average.tolist(), strict=True)),
            float(np.exp(-(some * np.log(some)).sum())) if self.steps else 0.0,
            dict(zip(self.names, self._drift().tolist(), strict=True)),
            dict(zip(self.names, self.counts, strict=True)),
        )

    def _drift(self) -> Array:  # -> (m,)
        """How far the mean is from that of the first nine tenths."""
        before = [(steps, total) for steps, total in self.past if steps <= 0.9 * self.steps]
        if not before:
            return np.full(len(self.names), np.inf)
        steps, total = before[-1]
        return np.abs(self.average - np.array(total) / steps)

    def state_dict(self) -> dict[str, Any]:
        """As plain values."""
        past = [[steps, list(total)] for steps, total in self.past]
        return {
            "steps": self.steps,
            "every": self.every,
            "sum": list(self.sum),
            "counts": list(self.counts),
            "past": past,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.steps, self.every = int(state["steps"]), int(state["every"])
        self.sum, self.counts = list(state["sum"]), list(state["counts"])
        self.past = [(int(steps), list(total)) for steps, total in state["past"]]
