"""SCE: select elements on which models differ, weight models by their changes, erase minority signs."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Block, Part
from equipoise.merging.mergerule import MergeRule
from equipoise.merging.signs import agreed, column, elected
from equipoise.merging.sparserule import check_shares
from equipoise.merging.threshold import ALL, Threshold, thresholds, trim

CARD = Card(
    name="SCE",
    shape="merge",
    summary="Select elements on which models differ, weight models by their changes, erase minority signs",
    formula="theta_0 + sum_i eta_i delta_i [agrees] / sum_i eta_i [agrees], eta_i = mean(delta_i^2)",
    title="FuseChat: Knowledge Fusion of Chat Models",
    authors=("Wan", "Zhong", "Yang", "Chen", "Quan"),
    venue="arXiv",
    year=2024,
    arxiv="2408.07990",
    cost="two passes, four with a selection; memory of a part",
    use="models from one base of unlike strength: weights come from the changes, matrix by matrix",
    avoid="a model that drifted far without gain: it gets the largest weight",
    single="the model itself",
    status="main",
    evidence="merging",
)


class _Measured(NamedTuple):
    threshold: Threshold
    weights: Tensor


@dataclass(frozen=True)
class SCE(MergeRule):
    """Select elements on which models differ, weight models by their changes, erase minority signs.

    In each tensor: keep the share `select_topk` (tau) of those elements whose changes vary at all over the
    models, those of the largest variance; eta_i = mean(delta_i^2) of what is kept; merge the changes that
    have the sign of sum_i delta_i: theta_0 + sum_i eta_i delta_i / sum_i eta_i. Where nothing is kept the
    base stays; a single model has no variance and is kept whole.

    Raises ValueError for a share outside of 0 to 1.

    Source: Wan et al., 2024 (select, calculate, erase); counts as in mergekit 0.1.5.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> models = [{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([-3.0, 0.0])}]
    >>> merge(models, {"w": torch.zeros(2)}, method=SCE())["w"].round()
    tensor([-3.,  0.])
    """

    select_topk: float = 1.0

    needs_base = True
    per_model = ()

    def __post_init__(self) -> None:
        check_shares("SCE: select_topk", self.select_topk)

    def measure(self, block: Block, survey: None) -> _Measured:
        threshold = ALL
        if self.select_topk < 1 and len(block) > 1:
            differing = sum(int(deviation(part).count_nonzero()) for part in block.parts())
            threshold = thresholds(block, [[int(differing * self.select_topk)]], values=deviation)[0][0]
        squares = torch.zeros(len(block), dtype=torch.float64)
        for part in block.parts():
            squares += self._selected(part, threshold).double().square_().sum(1)
        return _Measured(
            threshold, squares / squares.sum() if squares.sum() > 0 else torch.ones_like(squares)
        )

    def merge(self, part: Part, measured: _Measured) -> Tensor:  # -> part.shape
        rows = self._selected(part, measured.threshold)
        signs = elected(rows)
        rows.mul_(column(measured.weights, rows))
        return part.base.add_(agreed(rows, measured.weights, signs=signs))

    def _selected(self, part: Part, threshold: Threshold) -> Tensor:  # -> (m, k)
        """The changes, those that were not selected being zero."""
        if threshold == ALL:
            return part.deltas
        return part.deltas.mul_(trim(part, deviation(part), [threshold]).gt_(0))


def deviation(part: Part) -> Tensor:  # -> (1, k)
    """The root of each element's variance over the models; exactly zero where all models are equal.

    Squares are taken in float64, which holds those of any float32.
    """
    from_first = part.deltas - part.deltas[0]
    squares = from_first.sub_(from_first.mean(0)).double().square_()
    return squares.mean(0, keepdim=True).sqrt_().to(part.block.dtype)
