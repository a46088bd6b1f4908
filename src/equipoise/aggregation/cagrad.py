"""CAGrad: near the mean, do the most for the objective that gains the least."""

from typing import Literal

from torch import Tensor

from equipoise.core.averse import averse
from equipoise.core.card import Card
from equipoise.core.rule import GramianRule

CARD = Card(
    name="CAGrad",
    shape="gramian",
    summary="Within a ball around the mean direction, the update that is best for the worst-off objective.",
    formula="max over d of min_i g_i'd, |d - g0| <= c |g0|, g0 the mean; then d / (1 + c^2)",
    title="Conflict-Averse Gradient Descent for Multi-task Learning",
    authors=("Bo Liu", "Xingchao Liu", "Xiaojie Jin", "Peter Stone", "Qiang Liu"),
    venue="NeurIPS",
    year=2021,
    arxiv="2110.14048",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "NON_NEGATIVE"),
    single="the direction times (1 + c) / (1 + c^2)",
    cost="the Gramian and a few quadratic programs of size m",
    use="the mean loss is what counts in the end, with some care for who lags on the way",
    avoid="no objective may be hurt: that holds only for c of 1 and above",
    status="main",
)


class CAGrad(GramianRule):
    """Stay within c times its length of the mean, and do the most for who gains the least.

    max_d min_i g_i'd subject to |d - g0| <= c |g0| with g0 the mean direction (Liu et al. 2021,
    equation 3). Its dual, min_{w in simplex} w'Gu + c |g0| |J'w| with G = `gramian`, u uniform
    (algorithm 1), gives d = g0 + c |g0| J'w / |J'w|. `core.averse` solves it exactly and says how far
    the answer is from the bound that the dual gives.

    When to use: c from 0 (the mean) upwards tunes how much the worst-off objective counts.
    When not: all objectives must gain at every step; for c < 1 some may not.

    c: radius of the ball relative to |g0|, below 1 in the paper; 0.5 as in the authors' code, whose
        script for NYU-v2 passes 0.4.
    rescale: 1 divides the update by 1 + c^2, as the code for NYU-v2 does, 2 by 1 + c, 0, as in
        algorithm 1, by nothing.

    Where g0 is zero the weights are uniform and the update zero. Where the dual ends at J'w = 0
    every update of the ball that hurts nobody is optimal: the one nearest to g0 is taken.

    >>> import torch
    >>> CAGrad(rescale=0)(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]))
    tensor([0.5000, 0.7500], dtype=torch.float64)
    """

    def __init__(self, *, c: float = 0.5, rescale: Literal[0, 1, 2] = 1) -> None:
        super().__init__()
        if not c >= 0:
            raise ValueError(f"c must be 0 or more, got {c}")
        if rescale not in (0, 1, 2):
            raise ValueError(f"rescale must be 0, 1 or 2, got {rescale!r}")
        self.c = c
        self.rescale = rescale

    def forward(self, gramian: Tensor) -> Tensor:  # (m, m) -> (m,)
        divisor = (1.0, 1.0 + self.c**2, 1.0 + self.c)[self.rescale]
        return averse(gramian, self.c).value / divisor

    def extra_repr(self) -> str:
        return f"c={self.c}, rescale={self.rescale}"
