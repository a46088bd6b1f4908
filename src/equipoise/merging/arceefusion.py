"""ArceeFusion: the base, with those elements of one other model whose change is of outlying importance."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Block, Part
from equipoise.merging.mergerule import MergeRule, check_least
from equipoise.merging.threshold import thresholds

CARD = Card(
    name="ArceeFusion",
    shape="merge",
    summary="The base, with those elements of one other model whose change is of outlying importance",
    formula="theta_0 + delta where s >= median(s) + f (q_75(s) - q_25(s)), s_ij = |delta_ij| KL_i of row i",
    title="mergekit, method arcee_fusion",
    authors=("Arcee AI",),
    venue="mergekit",
    year=2025,
    cost="three passes, a softmax of each row in the first; memory of a part, and eight bytes a row",
    use="to take the few largest changes of one model, mostly in rows that changed as a whole",
    avoid="more than two models; models whose task lies in many small changes",
    single="the base with the elements of the model that count",
    status="main",
    evidence="merging",
)

SMOOTHING = 1e-8
"""Added to each probability, as in mergekit."""
QUARTILES = (0.25, 0.5, 0.75)


class _Measured(NamedTuple):
    divergences: Tensor  # (rows,) float64
    threshold: float


@dataclass(frozen=True)
class ArceeFusion(MergeRule):
    """The base, with those elements of one other model whose change is of outlying importance.

    In each tensor, the importance of element j of row i (along the last axis) is s_ij = |delta_ij| KL_i, with
    KL_i the divergence of softmax(row i of the model) from softmax(row i of the base). The model's element
    stands where s_ij >= median(s) + f (q_75(s) - q_25(s)), the quartiles being those of the tensor; elsewhere
    the base's. `fence`: f; a larger one takes fewer elements.

    The divergence is computed in float64, whatever is stored, and quartiles are exact. mergekit gives the
    same where its `dtype` is float64; in float32 its rounding decides a few elements of ten thousand
    otherwise, in bfloat16 many, and of a tensor beyond a million elements it takes a million at random for
    the quartiles. Where at least three quarters of a tensor have no importance, as in tensors of one column,
    the threshold is zero and all is the model's.

    Raises ValueError for a fence that is negative or not finite, and where there is not exactly one model
    beside the base.

    Source: mergekit 0.1.5, arcee_fusion.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base, model = {"w": torch.zeros(5)}, {"w": torch.tensor([0.1, -0.1, 0.2, 0.1, -2.0])}
    >>> merge([model], base, method=ArceeFusion())["w"]
    tensor([ 0.,  0.,  0.,  0., -2.])
    """

    fence: float = 1.5

    needs_base = True
    per_model = ()

    def __post_init__(self) -> None:
        check_least("ArceeFusion", "fence", self.fence, 0.0)

    def beside(self, block: Block) -> int:
        """The divergences of all rows, in float64."""
        return 8 * (block.numel // _width(block)) if block.numel else 0

    def bound(self, names: Sequence[str]) -> Self:
        if len(names) != 1:
            raise ValueError(
                f"ArceeFusion takes elements of one model beside the base, but {len(names)} are given: "
                f"{', '.join(names)}"
            )
        return self

    def measure(self, block: Block, survey: None) -> _Measured | None:
        if not block.numel:
            return None
        divergences = torch.cat([divergence(part) for part in block.parts(by_row=True)])
        if highest := float(divergences.max()):
            divergences /= highest  # only ratios count, and importances are not to underflow
        low, median, high = _quartiles(block, divergences)
        return _Measured(divergences, median + self.fence * (high - low))

    def merge(self, part: Part, measured: _Measured) -> Tensor:  # -> part.shape
        model = part.rows[0]
        taken = importance(part, measured.divergences)[0] >= measured.threshold
        return torch.where(taken.view(part.shape), model, part.base)


def divergence(part: Part) -> Tensor:  # -> (rows,) float64
    """KL(softmax(row of the model) || softmax(row of the base)) of each whole row in a part.

    As the sum of p log(p/q) - p + q, none of which is negative: what rounding leaves of the sums of p and q
    does not outweigh the divergence of rows that hardly differ.
    """
    p, q = (values.double().view(-1, _width(part.block)).softmax(-1) for values in (part.rows, part.base))
    p, q = p.add_(SMOOTHING), q.add_(SMOOTHING)
    apart = p - q
    return (apart / q).log1p_().mul_(p).sub_(apart).sum(-1).clamp_(min=0)


def importance(part: Part, divergences: Tensor) -> Tensor:  # (rows,) -> (1, k)
    """The size of each change times the divergence of its row, in the dtype of the arithmetic."""
    width = _width(part.block)
    rows = slice(part.start // width, -(-part.stop // width))
    ends = torch.arange(rows.start, rows.stop + 1).mul_(width).clamp_(part.start, part.stop)
    found = divergences[rows].repeat_interleave(ends.diff())
    return found.mul_(part.deltas[0].abs().flatten()).to(part.block.dtype)[None]


def _quartiles(block: Block, divergences: Tensor) -> list[float]:
    """Of the importances of a tensor: the elements at these shares of their order, rounded down."""
    values = partial(importance, divergences=divergences)
    places = [int(share * (block.numel - 1)) for share in QUARTILES]
    if not places[0]:  # fewer than five elements, where a threshold would keep all of them
        whole = Part(block, 0, block.numel, torch.Size([block.numel]))
        return values(whole)[0].sort().values[places].tolist()
    ranks = [block.numel - place for place in places]
    return [found.value for found in thresholds(block, [ranks], exact=False, values=values)[0]]


def _width(block: Block) -> int:
    """The elements of a row."""
    return block.shape[-1] if block.shape else 1
