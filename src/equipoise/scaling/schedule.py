"""Schedule: how much of each objective at each step; a subclass says the ratios, and what they learn from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from equipoise.core.errors import unknown
from equipoise.scaling.runs import Array


class Schedule:
    """Ratios of m named objectives, a point of the simplex for each step.

    names: two or more, each once. A schedule that learns has a method `observe`, which is told between steps
    what it learns from, and keeps what it has learned in `state_dict`.

    Raises ValueError for names that repeat or are fewer than two.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        if isinstance(names, str) or len(self.names) < 2 or len(set(self.names)) < len(self.names):
            raise ValueError(f"names are {names!r}; give two or more, each once")

    def ratios(self, step: int, steps: int | None = None) -> Array:  # -> (m,)
        """The ratios at a step, counted from 0, of `steps` in all (None where that is not known)."""
        raise NotImplementedError

    def factors(self, p: Array) -> Array:  # (m,) -> (m,)
        """What a loss counts where its objective was drawn with ratio p: 1, unless the mean is to be kept."""
        return np.ones(len(p))

    def begins_anew(self, step: int, steps: int | None = None) -> bool:
        """Whether the optimizer is to be made anew before this step."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """What was learned, as plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; raises KeyError for what is missing."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.names)})"

    def _place(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(unknown("objective", name, self.names))
        return self.names.index(name)

    def _row(self, what: str, given: Mapping[str, float]) -> Array:  # -> (m,)
        """Numbers by name, in the order of the names; raises ValueError for one too many or too few."""
        for name in given:
            self._place(name)
        absent = [name for name in self.names if name not in given]
        if absent:
            raise ValueError(f"{what} lacks {', '.join(map(repr, absent))}")
        found = np.array([float(given[name]) for name in self.names])
        bad = ~np.isfinite(found)
        if bad.any():
            name = self.names[int(bad.argmax())]
            raise ValueError(f"{what} of {name!r} is {given[name]}; it is a finite number")
        return found


def mixture(names: Sequence[str], given: Mapping[str, float]) -> Array:  # -> (m,)
    """Ratios by name over their sum, those that are not named 0.

    Raises ValueError for a name that there is not, a ratio below 0 or not finite, and ratios that are all 0.

    >>> mixture(("a", "b"), {"a": 3, "b": 1}).tolist()
    [0.75, 0.25]
    """
    for name, value in given.items():
        if name not in names:
            raise ValueError(unknown("objective", name, names))
        if not 0 <= value < float("inf"):
            raise ValueError(f"the ratio of {name!r} is {value}; it is 0 or more")
    found = np.array([float(given.get(name, 0.0)) for name in names])
    if not found.any():
        raise ValueError(f"the ratios of {', '.join(names)} are all 0")
    return found / found.sum()


def uniform(names: Sequence[str]) -> Array:  # -> (m,)
    """Equal ratios."""
    return np.full(len(names), 1 / len(names))


def known_length(schedule: Schedule, steps: int | None) -> int:
    """The number of steps; raises ValueError where a schedule needs it and it is not known."""
    if steps is None:
        raise ValueError(
            f"{type(schedule).__name__} needs the number of steps; give ObjectiveSampler(steps=…)"
        )
    return steps
