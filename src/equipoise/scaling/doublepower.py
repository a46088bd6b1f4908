"""DoublePower: a source that is poor gains by its ratio, and loses again where it is repeated."""

from dataclasses import dataclass
from typing import ClassVar

from equipoise.core.card import Card
from equipoise.scaling.form import Form
from equipoise.scaling.law import Law
from equipoise.scaling.mixtureforms import DoublePowerForm
from equipoise.scaling.runs import Features

CARD = Card(
    name="DoublePower",
    shape="law",
    summary="A poor source gains by its ratio, and loses again where it is repeated too often.",
    formula="L_i = M + (k p_i)^-alpha + (D^gamma + b) (q p_i)^beta",
    title="On the Pareto Front of Multilingual Neural Machine Translation",
    authors=("Liang Chen", "Shuming Ma", "Dongdong Zhang", "Furu Wei", "Baobao Chang"),
    venue="NeurIPS",
    year=2023,
    arxiv="2304.03216",
    single="one loss and its own ratio",
    cost="a grid of 192 points, and five polished ends",
    use="sources so small that they are repeated many times",
    avoid="everything within an epoch: the rising term has nothing to be told from",
    status="experimental",
    evidence="double_power",
)


@dataclass(frozen=True)
class DoublePower(Law):
    """L_i = M + K p_i^-alpha + (Q D^gamma + R) p_i^beta, with D in millions.

    The first power is what own data bring, the second over-fitting, so that the loss has a least point within
    the simplex. The text of the paper's equation was not at hand; the shape is from memory of it.
    Coefficients: M, K, R, Q, alpha, beta, gamma.

    Source: Chen et al. 2023, the double power law.
    """

    owned: ClassVar[bool] = True
    usual: ClassVar[float] = 1e-2

    def form(self, x: Features, own: int) -> Form:
        return DoublePowerForm(self.name, own)
