"""LinearMixing: a loss as the mean of what it would be on each source alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

from equipoise.core.card import Card
from equipoise.scaling.form import Array
from equipoise.scaling.law import Law
from equipoise.scaling.runs import Features
from equipoise.scaling.single import Single

CARD = Card(
    name="LinearMixing",
    shape="law",
    summary="A loss as the mean of what it would be of each source alone.",
    formula="L_i = sum_j c_ij p_j",
    single="one loss",
    cost="one least-squares problem with coefficients of 0 or more",
    use="as the baseline that every law must beat",
    avoid="as a law: losses are not linear in ratios",
    status="main",
)


@dataclass(eq=False)
class LinearSingle(Single):
    """Coefficients of one loss, and of the refits (B, k)."""

    found: dict[str, float]
    refits: Array

    @property
    def coefficients(self) -> dict[str, float]:
        """What the loss would be of each source alone."""
        return self.found

    def predict(self, x: Features) -> Array:
        return x.need("p", "LinearMixing") @ np.array(list(self.found.values()))

    def draws(self, x: Features) -> Array:
        return self.refits @ x.need("p", "LinearMixing").T

    def plain(self) -> dict[str, Any]:
        return {**super().plain(), "refits": self.refits.tolist()}

    def spread(self) -> dict[str, float]:
        if not len(self.refits):
            return {}
        return dict(zip(self.found, map(float, self.refits.std(0, ddof=1)), strict=True))


@dataclass(frozen=True)
class LinearMixing(Law):
    """L_i = sum_j c_ij p_j with c of 0 or more, by least squares of the relative error.

    Coefficients: "c.<source>". It takes no notice of N, D, or `delta`.
    """

    def single(self, x: Features, y: Array, own: int, *, delta: float, weights: Array) -> Single:
        p = x.need("p", self.name)

        def solved(weight: Array) -> Array:
            root = np.sqrt(weight)
            return nnls(p / y[:, None] * root[:, None], root)[0]

        names = [f"c.{name}" for name in x.sources]
        found = solved(np.ones(len(y)))
        refits = np.array([solved(weight) for weight in weights]).reshape(len(weights), len(names))
        return LinearSingle(dict(zip(names, map(float, found), strict=True)), refits)

    def restored(self, x: Features, y: Array, own: int, held: Mapping[str, Any]) -> Single:
        found = dict(held["coefficients"])
        return LinearSingle(found, np.array(held["refits"]).reshape(-1, len(found)))
