"""Utility: pools of data that are worth less each time they are seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from equipoise.core.card import Card
from equipoise.scaling.form import Array
from equipoise.scaling.law import Law
from equipoise.scaling.runs import Features
from equipoise.scaling.single import Single

CARD = Card(
    name="Utility",
    shape="law",
    summary="Pools of data are worth less each time they are seen; a good pool wears out.",
    formula="L = d + (a n_1)^b_0 prod_k (n_k+1 / n_k)^b_k, b_k = b 2^(-k / c)",
    title="Scaling Laws for Data Filtering - Data Curation cannot be Compute Agnostic",
    authors=("Sachin Goyal", "Pratyush Maini", "Zachary C. Lipton", "Aditi Raghunathan", "J. Zico Kolter"),
    venue="CVPR",
    year=2024,
    arxiv="2404.07177",
    single="one pool",
    cost="a grid of 96 starts over four numbers",
    use="to choose how strictly to filter for a given compute",
    avoid="less than one epoch of every pool",
    status="main",
)


def utility(seen: Array, per_epoch: Array, a: float, b: float, c: float, d: float) -> Array:
    """L = d + (a n_1)^b_0 prod_k (n_k+1 / n_k)^b_k after n samples, b_k = b 2^(-k / c), epochs counted from
    0.

    n_k are the samples at the end of each epoch, and at the end of all. seen, per_epoch: samples, in units of
    a's inverse. b is below 0, c the epochs in which the worth of a sample halves, d what no data remove. The
    irreducible d stands outside the product; in the authors' code it is inside, and so decays with the
    epochs.
    """
    seen, per_epoch = np.broadcast_arrays(np.asarray(seen, dtype=float), np.asarray(per_epoch, dtype=float))
    last = np.minimum(seen, per_epoch)
    logs = b * np.log(a * last)
    epochs = int(np.ceil((seen / per_epoch).max() - 1e-12))
    for k in range(1, epochs):
        now = np.minimum(seen, (k + 1) * per_epoch)
        logs = logs + np.where(now > last, b * 2 ** (-k / c) * np.log(now / last), 0.0)
        last = np.maximum(now, last)
    return d + np.exp(np.minimum(logs, 600.0))


@dataclass(eq=False)
class UtilitySingle(Single):
    """The fit of one pool."""

    found: dict[str, float]

    @property
    def coefficients(self) -> dict[str, float]:
        """a, b, c and d."""
        return self.found

    def predict(self, x: Features) -> Array:
        return utility(x.need("D", "Utility"), x.unique("Utility"), **self.found)


@dataclass(frozen=True)
class Utility(Law):
    """The loss after D samples of a pool of U, in the columns "D" and "U" (`utility`).

    Coefficients: a, b, c, d. The union of pools has the mean of their exponents b_k, in the paper. Fitted by
    the least Huber loss of the logarithm from a grid of starts; the authors search a grid alone, and stop it
    early.

    Source: Goyal et al. 2024, equations 2 to 4.
    """

    def single(self, x: Features, y: Array, own: int, *, delta: float, weights: Array) -> Single:
        seen, pool = x.need("D", self.name), x.unique(self.name)
        scale = float(seen.min())

        def residuals(u: Array) -> Array:
            a, b, c, d = np.exp(u)
            return np.log(utility(seen / scale, pool / scale, a, -b, c, d)) - np.log(y)

        best = None
        for rate in (1e-3, 0.1, 1.0):
            for power in (0.03, 0.1, 0.3, 0.8):
                for half in (1.0, 4.0):
                    for rest in (0.05, 0.5):
                        start = np.log([rate, power, half, rest * y.min()])
                        found = least_squares(
                            residuals,
                            start,
                            loss="huber",
                            f_scale=delta,
                            bounds=(-30, 30),
                            xtol=1e-14,
                            ftol=1e-14,
                        )
                        best = found if best is None or found.cost < best.cost else best
        assert best is not None
        a, b, c, d = np.exp(best.x)
        return UtilitySingle({"a": float(a) / scale, "b": -float(b), "c": float(c), "d": float(d)})

    def restored(self, x: Features, y: Array, own: int, held: Mapping[str, Any]) -> Single:
        return UtilitySingle(dict(held["coefficients"]))
