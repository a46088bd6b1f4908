"""Revised uncertainty weighting: learned precisions weigh the losses, at a price that stays positive."""

from collections.abc import Iterable, Sequence

from torch import Tensor
from torch.nn.functional import softplus

from equipoise.core.card import Card
from equipoise.core.keyed import Keyed, numbered
from equipoise.core.rule import Scalarizer

CARD = Card(
    name="RevisedUncertainty",
    shape="scalarizer",
    summary="Weighs each loss by a learned precision, without the total ever turning negative.",
    formula="sum_i exp(-s_i) f_i / 2 + log(1 + exp(s_i)), s learned",
    title="Auxiliary Tasks in Multi-task Learning",
    authors=("Lukas Liebel", "Marco Körner"),
    venue="arXiv",
    year=2018,
    arxiv="1805.06334",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "NON_NEGATIVE", "CONVEX", "LEARNABLE"),
    single="half the direction times exp(-s), s learned",
    cost="one backward pass",
    use="in place of UncertaintyWeighting, where the total should stay a positive loss",
    avoid="for losses that reach zero: the weight then grows without bound, as it does there",
    status="main",
)


class RevisedUncertainty(Keyed, Scalarizer):
    """Each loss divided by a learned variance, with a positive price on the variance.

    sum_i exp(-s_i) f_i / 2 + log(1 + exp(s_i)) with f `losses`; s_i = log sigma_i^2 is a parameter that
    starts at `initial` and that the optimizer trains: give it `rule.parameters()`. Beside
    UncertaintyWeighting, whose price log sigma falls without bound as sigma does, this one ends at zero.
    For a fixed f the best variance is (f + sqrt(f^2 + 8 f)) / 4.

    Use it where UncertaintyWeighting would be used. Not for losses that reach zero or below.

    The parameter exists, empty, from the constructor on and takes its size at the first call. An
    objective may be absent later; one that appears later raises ValueError unless `objectives` named it.
    Source: Liebel and Koerner 2018, the revised regulariser, here in the log variance, where an optimizer
    cannot step across sigma = 0; public implementations learn sigma itself, from sigma = 1.

    >>> import torch
    >>> round(RevisedUncertainty()(torch.tensor([1.0, 4.0])).item(), 4)
    3.8863
    """

    log_variances: Tensor

    def __init__(self, *, initial: float = 0.0, objectives: Iterable[str] | None = None) -> None:
        super().__init__(objectives=objectives)
        self.learn("log_variances", initial)

    def forward(self, losses: Tensor, *, names: Sequence[str] | None = None) -> Tensor:  # (m,) -> ()
        log_variances = self.read("log_variances", numbered(names, losses.numel())).to(losses)
        return ((-log_variances).exp() * losses / 2 + softplus(log_variances)).sum()
