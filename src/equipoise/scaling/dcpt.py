"""DCPT: continual pre-training on a domain and the old data, at a ratio."""

from dataclasses import dataclass
from typing import ClassVar

from equipoise.core.card import Card
from equipoise.scaling.form import Form
from equipoise.scaling.law import Law
from equipoise.scaling.mixtureforms import DCPTForm
from equipoise.scaling.runs import Features

CARD = Card(
    name="DCPT",
    shape="law",
    summary="Continual pre-training on a domain and on old data, at a ratio.",
    formula="L = E + A / N^alpha + B r^eta / D^beta + C / (r + eps)^gamma",
    title="D-CPT Law: Domain-specific Continual Pre-Training Scaling Law for Large Language Models",
    authors=("Haoran Que", "Jiaheng Liu", "Ge Zhang", "Chenchen Zhang", "Xingwei Qu", "Yinghao Ma"),
    venue="NeurIPS",
    year=2024,
    arxiv="2406.01375",
    single="one loss and its own ratio",
    cost="a grid of 108 points over five exponents, and five polished ends",
    use="two sources, old and new, and a limit on what the old one may lose",
    avoid="few runs: it has nine numbers",
    status="main",
    evidence="dcpt",
)


@dataclass(frozen=True)
class DCPT(Law):
    """L = E + A N^-alpha + B r^eta D^-beta + C (r + eps)^-gamma, r the own ratio of the loss.

    Coefficients: E, A, B, C, alpha, eta, beta, eps, gamma.

    Source: Que et al. 2024, equation 5.
    """

    owned: ClassVar[bool] = True
    usual: ClassVar[float] = 1e-2

    def form(self, x: Features, own: int) -> Form:
        return DCPTForm(self.name, own)
