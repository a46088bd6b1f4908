"""SDMGrad: the min-norm direction, drawn towards a preferred one."""

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.preference import preference_like
from equipoise.core.qp import min_norm
from equipoise.core.rule import GramianRule

CARD = Card(
    name="SDMGrad",
    shape="gramian",
    summary="The common descent direction of least norm after each direction is moved towards the mean one.",
    formula="w = argmin over the simplex of |J'(w + lambda p)|^2; then (w + lambda p) / (1 + lambda)",
    title="Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms",
    authors=("Peiyao Xiao", "Hao Ban", "Kaiyi Ji"),
    venue="NeurIPS",
    year=2023,
    arxiv="2305.18409",
    guarantees=(
        "PERMUTATION",
        "HOMOGENEOUS(1)",
        "SIMPLEX",
        "NON_NEGATIVE",
        "STRONGLY_STATIONARY",
        "PREFERENCE",
    ),
    single="the direction itself",
    cost="the Gramian and one quadratic program of size m",
    use="between MGDA and the mean, by one number; a preference says where the pull goes",
    avoid="no objective may be hurt: with lambda above zero one may be",
    status="main",
)


class SDMGrad(GramianRule):
    """Share out the gains as MGDA does, but pull the update towards a preferred mixture of the objectives.

    w = argmin_{w in simplex} |J'(w + lambda p)|^2 / 2, with p = `preference`, uniform by default; the
    weights are (w + lambda p) / (1 + lambda). lambda = 0 is MGDA, a large lambda the weighted mean.
    Since w sums to one this is the min-norm problem of the rows g_i + lambda J'p, which is solved exactly;
    the authors take 20 steps of projected descent, which end up to 5% and more above the minimum.

    When to use: some of MGDA's care for the short directions, without being ruled by them.
    When not: no objective may be hurt.

    lambda_: not negative; 0.3, as in the authors' experiments with supervised learning.

    gramian: (m, m). preference: (m,) on the simplex or None. Returns (m,). The paper takes J J' from two
    independent batches, so that its estimate is unbiased; with one batch the noise of each direction
    adds to its own square, as it does in MGDA.

    Raises ValueError for a negative lambda. Source: Xiao, Ban and Ji 2023, section 4, equation 6.

    >>> import torch
    >>> SDMGrad()(torch.tensor([[4.0, -2.0], [-2.0, 2.0]])).round(decimals=4)
    tensor([0.4000, 0.6000], dtype=torch.float64)
    """

    def __init__(self, *, lambda_: float = 0.3) -> None:
        super().__init__()
        if not lambda_ >= 0:
            raise ValueError(f"lambda_ must be 0 or more, got {lambda_}")
        self.lambda_ = lambda_

    def extra_repr(self) -> str:
        return f"lambda_={self.lambda_}"

    def forward(self, gramian: Tensor, *, preference: Tensor | None = None) -> Tensor:  # (m, m), (m,) -> (m,)
        gramian = gramian.double()
        chosen = preference_like(preference, gramian.diagonal())
        pull = self.lambda_ * (gramian @ chosen)
        shifted = gramian + pull + pull[:, None] + self.lambda_ * (chosen @ pull)
        weights = min_norm(shifted).value.to(gramian)
        return (weights + self.lambda_ * chosen) / (1 + self.lambda_)
