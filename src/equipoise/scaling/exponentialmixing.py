"""ExponentialMixing: the logarithm of a loss above its floor is linear in the mixture."""

from dataclasses import dataclass
from typing import ClassVar

from equipoise.core.card import Card
from equipoise.scaling.form import Form
from equipoise.scaling.law import Law
from equipoise.scaling.mixtureforms import ExpMixForm
from equipoise.scaling.runs import Features

CARD = Card(
    name="ExponentialMixing",
    shape="law",
    summary="The logarithm of a loss above its floor is linear in the mixture.",
    formula="L_i = c_i + exp(sum_j t_ij p_j)",
    title="Data Mixing Laws: Optimizing Data Mixtures by Predicting Language Modeling Performance",
    authors=("Jiasheng Ye", "Peiju Liu", "Tianxiang Sun", "Jun Zhan", "Yunhua Zhou", "Xipeng Qiu"),
    venue="ICLR",
    year=2025,
    arxiv="2403.16952",
    single="one loss",
    cost="three starts over k + 1 numbers",
    use="sources that may hurt each other: the slopes have signs",
    avoid="ratios near 0, where real losses rise faster than it does",
    status="main",
    evidence="regmix_runs",
)


@dataclass(frozen=True)
class ExponentialMixing(Law):
    """L_i = c_i + k_i exp(sum_j t_ij p_j), k in the t, as the ratios sum to 1.

    The slopes are drawn to their mean, by 1e-6 beside the sum of Huber losses. Coefficients: c and
    "t.<source>". The authors' pipeline ends in boosted networks in place of the formula; this is the formula.

    Source: Ye et al. 2025, equation 1.
    """

    usual: ClassVar[float] = 1e-2

    def form(self, x: Features, own: int) -> Form:
        return ExpMixForm(self.name, x.sources)
