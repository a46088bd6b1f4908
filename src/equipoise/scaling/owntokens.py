"""OwnTokens: a source's loss depends on how many of its own tokens were seen."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from equipoise.core.card import Card
from equipoise.scaling.form import Form
from equipoise.scaling.law import Law
from equipoise.scaling.mixtureforms import OwnTokensForm
from equipoise.scaling.runs import Features

CARD = Card(
    name="OwnTokens",
    shape="law",
    summary="A source has a loss that depends on how many of its own tokens were seen.",
    formula="L_i = E_i + A_i / N^alpha_i + B_i / (p_i D)^beta_i",
    single="one loss and its own tokens",
    cost="a grid of 24 exponents, and five polished ends",
    use="as the cheap hypothesis beside every other law: three numbers",
    avoid="sources that help each other",
    status="main",
)


@dataclass(frozen=True)
class OwnTokens(Law):
    """L_i = E_i + A_i N^-alpha_i + B_i (p_i D)^-beta_i: a ratio is its tokens, and nothing else.

    Without D the ratio stands alone. Runs without any of a source are left out of its fit. Coefficients: E, A
    (where N differs), B, alpha, beta.
    """

    owned: ClassVar[bool] = True
    usual: ClassVar[float] = 1e-2

    def form(self, x: Features, own: int) -> Form:
        return OwnTokensForm(self.name, own, x.N is not None and bool(np.ptp(x.N) > 0))
