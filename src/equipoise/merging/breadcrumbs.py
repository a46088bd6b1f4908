"""Breadcrumbs: drop the largest and the smallest changes of each tensor."""

from dataclasses import dataclass

from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Block, Part
from equipoise.merging.mergerule import PerModel, values_of
from equipoise.merging.sparserule import SparseRule, check_shares
from equipoise.merging.threshold import Threshold, kept, thresholds, trim

CARD = Card(
    name="Breadcrumbs",
    shape="merge",
    summary="Drop the largest and the smallest changes of each tensor, add up what is left",
    formula="theta_0 + lambda sum_i w_i m_i * delta_i, m_i without the top gamma and the bottom by magnitude",
    title="Model Breadcrumbs: Scaling Multi-Task Model Merging with Sparse Masks",
    authors=("Davari", "Belilovsky"),
    venue="ECCV",
    year=2024,
    arxiv="2312.06795",
    cost="two passes; memory of a part",
    use="many tasks, where a few outlying changes of each spoil the sum",
    avoid="models whose few large changes carry the task",
    single="the base plus lambda w times the middle changes of the model",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class Breadcrumbs(SparseRule):
    """Drop the largest and the smallest changes of each tensor: theta_0 + lambda sum_i w_i m_i * delta_i.

    `density`: the share of a tensor that is kept (1 - beta - gamma in the paper); `gamma`: the share of
    largest changes that is dropped, as far as the density allows. `weight`: w; `scale`: lambda (alpha there).
    `votes` elects signs as in TIES, `normalize` divides by the weights that count. At least one element of a
    tensor is kept. Counts are of whole tensors, as in mergekit; the authors' code counts in each row of the
    last axis.

    Raises ValueError for shares outside of 0 to 1.

    Source: Davari and Belilovsky, ECCV 2024; counts as in mergekit 0.1.5.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base, model = {"w": torch.zeros(5)}, {"w": torch.tensor([9.0, 1.0, -2.0, 0.1, 0.2])}
    >>> merge([model], base, method=Breadcrumbs(density=0.4, gamma=0.2))["w"]
    tensor([ 0.,  1., -2.,  0.,  0.])
    """

    density: PerModel = 0.9
    gamma: PerModel = 0.01

    per_model = ("weight", "density", "gamma")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares("Breadcrumbs: gamma", self.gamma)

    def measure(self, block: Block, survey: None) -> list[list[Threshold]]:
        """For each model, what bounds the changes from below and the outliers among them."""
        shares, tops = (values_of(option, block.names) for option in (self.density, self.gamma))
        ranks = []
        for share, top in zip(shares.tolist(), tops.tolist(), strict=True):
            keep = kept(share, block.numel)
            outliers = min(int(top * block.numel), block.numel - keep)
            ranks.append([outliers + keep if keep else 0, outliers if keep else 0])
        return thresholds(block, ranks)

    def sparse(self, part: Part, measured: list[list[Threshold]]) -> Tensor:  # -> (m, *shape)
        rows = trim(part, part.deltas, [low for low, _ in measured])
        return rows.sub_(trim(part, rows.clone(), [high for _, high in measured]))
