"""Chinchilla: the loss as an irreducible part, and powers of parameters and tokens."""

from dataclasses import dataclass

from equipoise.core.card import Card
from equipoise.scaling.form import Form
from equipoise.scaling.law import Law
from equipoise.scaling.powerform import PowerForm
from equipoise.scaling.runs import Features

CARD = Card(
    name="Chinchilla",
    shape="law",
    summary="The loss as an irreducible part, and powers of parameters and of tokens.",
    formula="L = E + A / N^alpha + B / D^beta",
    title="Training Compute-Optimal Large Language Models",
    authors=(
        "Jordan Hoffmann",
        "Sebastian Borgeaud",
        "Arthur Mensch",
        "Elena Buchatskaya",
        "Trevor Cai",
        "Eliza Rutherford",
    ),
    venue="NeurIPS",
    year=2022,
    arxiv="2203.15556",
    single="one loss",
    cost="a grid of 576 exponents and five polished ends: 0.1 s for 240 runs",
    use="a table of runs over N and D, to extrapolate either, or to share out compute",
    avoid="repeated data, mixtures, fewer than a dozen runs",
    status="main",
    evidence="chinchilla",
)


@dataclass(frozen=True)
class Chinchilla(Law):
    """L = E + A N^-alpha + B D^-beta, by the least sum of Huber losses of the logarithm, delta 1e-3.

    Coefficients: E, A, B, alpha, beta. The published fit stopped early; of one amplitude's starts none may
    reach the end, so all starts of a grid of exponents get their best amplitudes first, and the best are
    followed to 1e-15 of the objective. `compute_optimal` of the coefficients shares out compute.

    Source: Hoffmann et al. 2022, approach 3 and equation 10; Besiroglu et al. 2024 (arXiv 2404.10102) for
    what was wrong with the published numbers.
    """

    def form(self, x: Features, own: int) -> Form:
        return PowerForm(self.name, (("A", "alpha", "N"), ("B", "beta", "D")))


def compute_optimal(coefficients: dict[str, float], compute: float) -> dict[str, float]:
    """{"N", "D", "loss"} of the least loss for `compute` operations, C = 6 N D.

    N = G (C / 6)^(beta / (alpha + beta)), D = (C / 6)^(alpha / (alpha + beta)) / G,
    G = (alpha A / (beta B))^(1 / (alpha + beta)).

    Source: Hoffmann et al. 2022, equation 4.
    """
    a, b, alpha, beta = (coefficients[name] for name in ("A", "B", "alpha", "beta"))
    balance = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    n = balance * (compute / 6) ** (beta / (alpha + beta))
    d = (compute / 6) ** (alpha / (alpha + beta)) / balance
    return {"N": n, "D": d, "loss": coefficients.get("E", 0.0) + a * n**-alpha + b * d**-beta}
