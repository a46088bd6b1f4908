"""FamilyLaw: a language family's loss depends on its own ratio alone."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from equipoise.core.card import Card
from equipoise.scaling.form import Array, Form
from equipoise.scaling.law import Law
from equipoise.scaling.mixtureforms import FamilyForm
from equipoise.scaling.runs import Features

CARD = Card(
    name="FamilyLaw",
    shape="law",
    summary="A source has a loss that depends on its own ratio alone, as a power of it.",
    formula="L_i = (E_i + A_i / N^alpha_i + B_i / D^beta_i) p_i^-gamma_i",
    title="Scaling Laws for Multilingual Language Models",
    authors=(
        "Yifei He",
        "Alon Benhaim",
        "Barun Patra",
        "Praneetha Vaddamanu",
        "Sanchit Ahuja",
        "Parul Chopra",
        "Vishrav Chaudhary",
        "Han Zhao",
        "Xia Song",
    ),
    venue="ACL Findings",
    year=2025,
    arxiv="2410.12883",
    single="one loss and its own ratio",
    cost="a grid of exponents, and five polished ends",
    use="few sources, all of them in every run, and a quick optimum in closed form",
    avoid="sources that help each other, and ratios of 0, where it is infinite",
    status="main",
    evidence="family_law",
)


@dataclass(frozen=True)
class FamilyLaw(Law):
    """L_i = (E_i + A_i N^-alpha_i + B_i D^-beta_i) p_i^-gamma_i for a source (a family of languages) i.

    Terms of N and D are there where these differ among the runs. Runs without any of a source are left out of
    its fit. That nothing but the own ratio counts is tested by `independence`. Coefficients: E, A, B, alpha,
    beta, gamma.

    Source: He et al. 2024, equation 5.
    """

    owned: ClassVar[bool] = True
    usual: ClassVar[float] = 1e-2

    def form(self, x: Features, own: int) -> Form:
        return FamilyForm(self.name, own, varying(x))


def varying(x: Features) -> tuple[tuple[str, str, str], ...]:
    """Terms of what differs among the runs."""
    terms = (("A", "alpha", "N", x.N), ("B", "beta", "D", x.D))
    return tuple(term[:3] for term in terms if term[3] is not None and np.ptp(term[3]) > 0)


def family_optimum(weights: Array, factors: Array, gamma: Array) -> Array:  # (k,), (k,), (k,) -> (k,)
    """The mixture with the least sum_i w_i c_i p_i^-gamma_i, c_i what the loss would be of p_i = 1.

    p_i = (w_i c_i gamma_i / mu)^(1 / (1 + gamma_i)), mu by bisection; for one gamma p ~ (w c)^(1 / (1 +
    gamma)). A source of weight 0 gets nothing.

    Raises ValueError for weights below 0, all 0, or factors and exponents that are not above 0.

    >>> family_optimum(np.array([1.0, 1.0]), np.array([2.0, 2.0]), np.array([0.1, 0.1])).tolist()
    [0.5, 0.5]
    """
    w, c, g = (np.asarray(part, dtype=float) for part in (weights, factors, gamma))
    if not ((w >= 0).all() and w.any() and (c > 0).all() and (g > 0).all()):
        raise ValueError(
            f"weights are {w.tolist()}, factors {c.tolist()}, exponents {g.tolist()}; the first are "
            "0 or more and not all 0, the others above 0"
        )

    def ratios(log: float) -> Array:
        return np.where(w > 0, np.exp((np.log(np.maximum(w * c * g, 1e-300)) - log) / (1 + g)), 0.0)

    low, high = -200.0, 200.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if ratios(middle).sum() > 1 else (low, middle)
    found = ratios(high)
    return found / found.sum()
