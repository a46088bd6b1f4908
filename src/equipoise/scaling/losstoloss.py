"""LossToLoss: one loss told from another, as models grow."""

from dataclasses import dataclass

import numpy as np

from equipoise.core.card import Card
from equipoise.scaling.form import Array, Form, grid
from equipoise.scaling.law import Law
from equipoise.scaling.runs import Features

CARD = Card(
    name="LossToLoss",
    shape="law",
    summary="One loss told from another, as a shifted power.",
    formula="L_y = K (L_x - E_x)^kappa + E_y",
    title="LLMs on the Line: Data Determines Loss-to-Loss Scaling Laws",
    authors=(
        "Prasanna Mayilvahanan",
        "Thaddäus Wiedemer",
        "Sayak Mallick",
        "Matthias Bethge",
        "Wieland Brendel",
    ),
    venue="ICML",
    year=2025,
    arxiv="2502.12120",
    single="one loss",
    cost="a grid of 320 points, and five polished ends",
    use="to tell a test loss from a training loss, or to see that a change of data bends the line",
    avoid="losses of models that were trained on unlike data, in one fit",
    status="experimental",
)


class ShiftedForm(Form):
    """E_y + K (L_x - E_x)^kappa; E_x is sought as a part of the least L_x."""

    amplitudes = ("E_y", "K")
    shapes = ("kappa", "part")

    def __init__(self, least: float) -> None:
        self.least = least

    def basis(self, s: Array, x: Features) -> tuple[Array, Array]:
        part = s[:, 1, None] / (1 + s[:, 1, None])
        over = x.need("other_loss", "LossToLoss") - part * self.least
        value = over ** s[:, 0, None]
        phi = np.stack([np.ones_like(value), value], 2)
        slopes = np.zeros((*phi.shape, 2))
        slopes[:, :, 1, 0] = np.log(over) * value
        slopes[:, :, 1, 1] = -s[:, 0, None] * value / over * self.least / (1 + s[:, 1, None]) ** 2
        return phi, slopes

    def starts(self, x: Features, y: Array) -> Array:
        return grid(np.geomspace(0.2, 5.0, 20), np.geomspace(0.02, 50.0, 16))


@dataclass(frozen=True)
class LossToLoss(Law):
    """L_y = K (L_x - E_x)^kappa + E_y; L_x stands in the column "other_loss".

    Coefficients: K, kappa, E_y, and "part", the odds of E_x in the least L_x: E_x = part / (1 + part) min
    L_x.

    Source: Mayilvahanan et al. 2025; the form is that of their code.
    """

    def form(self, x: Features, own: int) -> Form:
        return ShiftedForm(float(x.need("other_loss", self.name).min()) * (1 - 1e-9))
