"""RepeatedData: tokens that were seen before count less and less."""

from dataclasses import dataclass

import numpy as np

from equipoise.core.card import Card
from equipoise.scaling.form import Array, Form, grid
from equipoise.scaling.law import Law
from equipoise.scaling.powerform import power
from equipoise.scaling.runs import Features

CARD = Card(
    name="RepeatedData",
    shape="law",
    summary="Chinchilla, for which tokens that were seen before count less and less.",
    formula="L = E + A / N^alpha + B / D_eff^beta, D_eff = U (1 + R (1 - exp(-(D / U - 1) / R)))",
    title="Scaling Data-Constrained Language Models",
    authors=(
        "Niklas Muennighoff",
        "Alexander M. Rush",
        "Boaz Barak",
        "Teven Le Scao",
        "Aleksandra Piktus",
        "Nouamane Tazi",
    ),
    venue="NeurIPS",
    year=2023,
    arxiv="2305.16264",
    single="one loss",
    cost="a grid of 512 points, and five polished ends",
    use="runs of several epochs, with the unique tokens in a column U.<source> or U",
    avoid="runs of less than one epoch, which say nothing of R",
    status="experimental",
)


def effective(D: Array, U: Array, R: Array) -> Array:
    """Tokens that D tokens of U unique ones are worth: D up to one epoch, then U (1 + R (1 - exp(-(D / U - 1)
    / R))).

    >>> float(effective(np.array(2.0), np.array(1.0), np.array(15.387756)).round(6))
    1.968199
    """
    more = np.maximum(D / U - 1, 0)
    return np.where(D <= U, D, U * (1 + R * -np.expm1(-more / R)))


def saturated(D: Array, U: Array, rate: float) -> Array:
    """ATLAS's S: D up to one epoch, then U (1 + (1 - exp(-rate (D / U - 1))) / rate); D at rate 0.

    It is `effective` with R = 1 / rate. Source: Longpre et al. 2025, after a transcription.

    >>> float(saturated(np.array(2.0), np.array(1.0), 1.0).round(6))
    1.632121
    """
    return np.asarray(D, dtype=float) if rate == 0 else effective(D, U, np.asarray(1 / rate))


class RepeatedForm(Form):
    """E + A N^-alpha + B D_eff^-beta."""

    amplitudes = ("E", "A", "B")
    shapes = ("alpha", "beta", "R")

    def basis(self, s: Array, x: Features) -> tuple[Array, Array]:
        size, by_alpha = power(x.need("N", "RepeatedData"), s[:, 0])
        D, U, R = x.need("D", "RepeatedData"), x.unique("RepeatedData"), s[:, 2, None]
        tokens = effective(D, U, R)
        beta = s[:, 1, None]
        value = tokens**-beta
        more = np.maximum(D / U - 1, 0)
        by_r = np.where(D <= U, 0.0, U * (-np.expm1(-more / R) - more / R * np.exp(-more / R)))
        phi = np.stack([np.ones_like(size), size, value], 2)
        slopes = np.zeros((*phi.shape, 3))
        slopes[:, :, 1, 0] = by_alpha
        slopes[:, :, 2, 1] = -np.log(tokens) * value
        slopes[:, :, 2, 2] = -beta * value / tokens * by_r
        return phi, slopes

    def starts(self, x: Features, y: Array) -> Array:
        few = np.geomspace(0.05, 1.0, 8)
        return grid(few, few, np.geomspace(1.0, 60.0, 8))


@dataclass(frozen=True)
class RepeatedData(Law):
    """Chinchilla in effective tokens, D_eff = U [1 + R (1 - exp(-(D / U - 1) / R))] beyond one epoch.

    U are unique tokens, R how many repetitions are worth anything: after R of them, a further one is worth
    1/e of a new epoch. Coefficients: E, A, B, alpha, beta, R (the paper's R*_D). Parameters beyond what U
    unique tokens need are taken as they are, where the paper has a second such term.

    Source: Muennighoff et al. 2023, equation 5 for tokens.
    """

    def form(self, x: Features, own: int) -> Form:
        return RepeatedForm()
