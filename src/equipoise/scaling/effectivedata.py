"""EffectiveData: tokens of every source count, each as much as it transfers."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.scaling.form import Form
from equipoise.scaling.law import Law
from equipoise.scaling.mixtureforms import EffectiveForm
from equipoise.scaling.runs import Features

CARD = Card(
    name="EffectiveData",
    shape="law",
    summary="Tokens of every source count for a loss, each as much as it transfers.",
    formula="L_i = E_i + A_i / N^alpha_i + 1 / (D sum_j tau_ij p_j)^beta_i",
    title="ATLAS: Adaptive Transfer Scaling Laws for Multilingual Pretraining, Finetuning, and "
    "Decoding the Curse of Multilinguality",
    authors=("Shayne Longpre", "Sneha Kudugunta", "Niklas Muennighoff"),
    venue="arXiv",
    year=2025,
    arxiv="2510.22037",
    single="one loss",
    cost="three starts over k + 2 numbers: some tenths of a second for 512 runs of 17 sources",
    use="first, for any mixture; it takes runs without some of the sources",
    avoid="sources that hurt each other: transfers are 0 or more",
    status="experimental",
    evidence="regmix_runs",
)


@dataclass(frozen=True)
class EffectiveData(Law):
    """L_i = E_i + A_i N^-alpha_i + (D sum_j tau_ij p_j)^-beta_i, tau the transfer from each source to each
    loss.

    D counts in millions, and is 1 where the table has none. The usual factor B is in the transfers: tau_ii =
    B^(-1/beta). The ratios sum to 1, so that a constant beside the transfers is in all of them. Their
    logarithms are drawn to their mean, by 5e-7 beside the sum of Huber losses, which holds sources that few
    runs have. Coefficients: E, A, alpha, beta and "tau.<source>".

    repetitions: R, how many repetitions of a token are worth anything; with it tokens beyond the unique ones
    U.<source> count less and less, U (1 + R (1 - exp(-(p D / U - 1) / R))) in the place of p D. None does not
    look at repetition. Muennighoff et al. 2023 have R = 15.4 for language models.

    The paper counts the three most helpful languages each and all others together; here each source counts.
    Raises ValueError for an R that is not above 0, and at the fit without the columns that it needs.

    Source: Longpre et al. 2025, after a transcription of the form, its lambda = 1 / R; the fit is ours.
    """

    repetitions: float | None = None
    usual: ClassVar[float] = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repetitions is not None:
            check_positive(repetitions=self.repetitions)

    def form(self, x: Features, own: int) -> Form:
        with_size = x.N is not None and bool(np.ptp(x.N) > 0)
        return EffectiveForm(self.name, x.sources, with_size, self.repetitions)
