"""CPT: continual pre-training, where a larger model makes more of the same new tokens."""

from dataclasses import dataclass

import numpy as np

from equipoise.core.card import Card
from equipoise.scaling.form import Array, Form, grid
from equipoise.scaling.law import Law
from equipoise.scaling.powerform import power
from equipoise.scaling.runs import Features

CARD = Card(
    name="CPT",
    shape="law",
    summary="Continual pre-training, where a larger model makes more of the same new tokens.",
    formula="L = E + A / N^alpha + B / (D^beta N^gamma)",
    title="Breaking Language Barriers: Cross-Lingual Continual Pre-Training at Scale",
    authors=("Wenzhen Zheng", "Wenbo Pan", "Xu Xu", "Libo Qin", "Li Yue", "Ming Zhou"),
    venue="EMNLP",
    year=2024,
    arxiv="2407.02118",
    single="one loss",
    cost="a grid of 512 points, and five polished ends",
    use="runs that go on from one pre-trained model at several sizes",
    avoid="runs of one size, which say nothing of gamma",
    status="experimental",
)


class ContinuedForm(Form):
    """E + A N^-alpha + B D^-beta N^-gamma."""

    amplitudes = ("E", "A", "B")
    shapes = ("alpha", "beta", "gamma")

    def basis(self, s: Array, x: Features) -> tuple[Array, Array]:
        N, D = x.need("N", "CPT"), x.need("D", "CPT")
        size, by_alpha = power(N, s[:, 0])
        tokens, by_beta = power(D, s[:, 1])
        joint, by_gamma = power(N, s[:, 2])
        phi = np.stack([np.ones_like(size), size, tokens * joint], 2)
        slopes = np.zeros((*phi.shape, 3))
        slopes[:, :, 1, 0] = by_alpha
        slopes[:, :, 2, 1], slopes[:, :, 2, 2] = by_beta * joint, tokens * by_gamma
        return phi, slopes

    def starts(self, x: Features, y: Array) -> Array:
        few = np.geomspace(0.03, 1.0, 8)
        return grid(few, few, np.geomspace(0.005, 0.5, 8))


@dataclass(frozen=True)
class CPT(Law):
    """L = E + A N^-alpha + B / (D^beta N^gamma), D the tokens since the change of language.

    Coefficients: E, A, B, alpha, beta, gamma; the last three terms are the paper's B', beta', gamma.

    Source: Zheng et al. 2024; the form is from a summary of it.
    """

    def form(self, x: Features, own: int) -> Form:
        return ContinuedForm()
