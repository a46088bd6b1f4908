"""Anneal: ratios that go from one mixture to another."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from equipoise.core.card import Card
from equipoise.core.errors import check_choice
from equipoise.scaling.runs import Array
from equipoise.scaling.schedule import Schedule, known_length, mixture

CARD = Card(
    name="Anneal",
    shape="schedule",
    summary="Ratios that go from one mixture to another over training.",
    formula="p(t) = (1 - s) p_0 + s p_1; or p_0^(1 - s) p_1^s over its sum",
    single="ratio 1",
    cost="nothing",
    use="much of everything first, what matters most at the end",
    avoid="where the end has a source of few examples: it is repeated when most is learned",
    status="main",
)

Shape = Literal["linear", "cosine", "geometric"]


class Anneal(Schedule):
    """From `first` to `last`: "linear" in s = step / (steps - 1), "cosine" with s = (1 - cos(pi t)) / 2, or
    "geometric", by weighted geometric means.

    first, last: {name: ratio}, over their sums. Raises ValueError for ratios that are below 0 or all 0, a
    shape that there is not, and without a number of steps.

    >>> Anneal({"web": 1, "books": 0}, {"web": 0, "books": 1}).ratios(5, 11).tolist()
    [0.5, 0.5]
    """

    def __init__(
        self, first: Mapping[str, float], last: Mapping[str, float], *, shape: Shape = "linear"
    ) -> None:
        super().__init__(tuple(dict.fromkeys((*first, *last))))
        check_choice("shape", shape, ("linear", "cosine", "geometric"))
        self.first, self.last, self.shape = mixture(self.names, first), mixture(self.names, last), shape
        if shape == "geometric" and not (self.first * self.last).any():
            raise ValueError("first and last share no objective; a geometric mean of them is 0")

    def ratios(self, step: int, steps: int | None = None) -> Array:
        s = min(step / max(known_length(self, steps) - 1, 1), 1.0)
        if self.shape == "geometric":
            found = self.first ** (1 - s) * self.last**s
            return found / found.sum()
        s = (1 - np.cos(np.pi * s)) / 2 if self.shape == "cosine" else s
        return (1 - s) * self.first + s * self.last
