"""Kaplan: the loss as one power of what is short, parameters or tokens."""

from dataclasses import dataclass

import numpy as np

from equipoise.core.card import Card
from equipoise.scaling.form import Array, Form, grid
from equipoise.scaling.law import Law
from equipoise.scaling.runs import Features

CARD = Card(
    name="Kaplan",
    shape="law",
    summary="The loss as one power of what is short, parameters or tokens, with nothing irreducible.",
    formula="L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D",
    title="Scaling Laws for Neural Language Models",
    authors=(
        "Jared Kaplan",
        "Sam McCandlish",
        "Tom Henighan",
        "Tom B. Brown",
        "Benjamin Chess",
        "Rewon Child",
    ),
    venue="arXiv",
    year=2020,
    arxiv="2001.08361",
    single="one loss",
    cost="a grid of 900 points, and five polished ends",
    use="to compare with the older literature",
    avoid="extrapolation far out: nothing in it is irreducible",
    status="main",
)


class KaplanForm(Form):
    """((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D, linear in nothing."""

    shapes = ("alpha_N", "alpha_D", "N_c", "D_c")

    def basis(self, s: Array, x: Features) -> tuple[Array, Array]:
        a, b = s[:, 0, None], s[:, 1, None]
        by_size = np.log(s[:, 2, None]) - np.log(x.need("N", "Kaplan"))
        first, second = np.exp(a / b * by_size), s[:, 3, None] / x.need("D", "Kaplan")
        inner = first + second
        value = inner**b
        common = b * value / inner
        slopes = np.stack(
            [
                common * first * by_size / b,
                np.log(inner) * value - common * first * by_size * a / b**2,
                common * first * a / b / s[:, 2, None],
                common * second / s[:, 3, None],
            ],
            2,
        )
        return value[:, :, None], slopes[:, :, None]

    def starts(self, x: Features, y: Array) -> Array:
        found = []
        for a, b in grid((0.05, 0.1, 0.2, 0.4), (0.05, 0.1, 0.2, 0.4)):
            for size in (0.2, 0.5, 0.8):
                # of the loss at the least N and D, this part is due to size
                worst = y.max() ** (1 / b)
                n = x.need("N", "Kaplan").min() * (size * worst) ** (b / a)
                found.append([a, b, n, x.need("D", "Kaplan").min() * (1 - size) * worst])
        return np.array(found)


@dataclass(frozen=True)
class Kaplan(Law):
    """L(N, D) = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D.

    N counts parameters without embeddings, as the paper does. Coefficients: alpha_N, alpha_D, N_c, D_c.

    Source: Kaplan et al. 2020, equation 1.5.
    """

    def form(self, x: Features, own: int) -> Form:
        return KaplanForm()
