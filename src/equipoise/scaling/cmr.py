"""CMR: the critical ratio of new data, beyond which the old loss rises."""

from dataclasses import dataclass
from typing import ClassVar

from equipoise.core.card import Card
from equipoise.scaling.form import Form
from equipoise.scaling.law import Law
from equipoise.scaling.mixtureforms import CMRForm
from equipoise.scaling.runs import Features

CARD = Card(
    name="CMR",
    shape="law",
    summary="A loss as a shifted power of its ratio, and the ratio as one of the tokens.",
    formula="L = a R^s + b",
    title="CMR Scaling Law: Predicting Critical Mixture Ratios for Continual Pre-training of Language Models",
    authors=("Jiawei Gu", "Zacc Yang", "Chuanghao Ding", "Rui Zhao", "Fei Tan"),
    venue="EMNLP",
    year=2024,
    arxiv="2407.17467",
    single="one loss and its own ratio",
    cost="a grid of 48 exponents, and five polished ends",
    use="one model and one budget, a handful of ratios",
    avoid="runs of unlike N or D, of which it knows nothing",
    status="main",
)


@dataclass(frozen=True)
class CMR(Law):
    """L = a R^s + b for one source's ratio R, s of either sign, a and b of 0 or more.

    Coefficients: b, a, s. `critical_ratio` has the paper's second power, of tokens.

    Source: Gu et al. 2024, tables 2 and 5.
    """

    owned: ClassVar[bool] = True

    def form(self, x: Features, own: int) -> Form:
        return CMRForm(self.name, own)


def critical_ratio(tokens: float, a: float, s: float, b: float) -> float:
    """R* = a T^s + b, the largest ratio of new data at which the old loss does not rise in T tokens.

    In the units in which a, s and b were fitted; the paper's are 0.2e9 tokens.

    >>> round(critical_ratio(100, 0.22524761, 0.26944345, -0.48139982), 3)
    0.298
    """
    return a * tokens**s + b
