"""NuSlerp: along the arc between two models or task vectors, by their weights."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Block, Blocks, Part
from equipoise.merging.blockgramian import combined, gramian_of, row_gramians, vectors
from equipoise.merging.mergerule import MergeRule, PerModel, normalized, values_of
from equipoise.merging.slerp import arc, at_most_two

CARD = Card(
    name="NuSlerp",
    shape="merge",
    summary="Slerp of two task vectors, as whole tensors or row by row, by the weights of the models",
    formula="theta_0 + slerp(Delta_1, Delta_2; t), t = w_2 / (w_1 + w_2)",
    title="mergekit, method nuslerp",
    authors=("Goddard",),
    venue="mergekit",
    year=2024,
    cost="two passes, one if row by row; memory of a part",
    use="two models of one base whose changes are to keep their length",
    avoid="three models and more",
    single="the model itself",
    status="main",
    evidence="merging",
)

Vectors = Literal["tensor", "rows", "columns"]


@dataclass(frozen=True)
class NuSlerp(MergeRule):
    """The arc between two task vectors, or two models where no base is given, by weights w.

    theta_0 + (sin((1 - t) a) Delta_1 + sin(t a) Delta_2) / sin a with t = w_2 / (w_1 + w_2) and a the angle.
    `weight`: w. `vectors`: what is taken as a vector, the whole "tensor", each of its "rows" (along the last
    axis) or "columns" (along the first). `relative=False` takes the models themselves although there is a
    base. Vectors that lie on one line, or of which one is zero, are interpolated on the line.

    Raises ValueError for three models or more, and for weights that sum to zero.

    Source: mergekit 0.1.5, nuslerp: its `nuslerp_flatten` (the default) is "tensor", `nuslerp_row_wise`
    "columns", neither "rows".

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base = {"w": torch.ones(2)}
    >>> models = {"a": {"w": torch.tensor([3.0, 1.0])}, "b": {"w": torch.tensor([1.0, 3.0])}}
    >>> merge(models, base, method=NuSlerp(weight=[1, 1]))["w"]
    tensor([2.4142, 2.4142])
    """

    weight: PerModel = 1.0
    vectors: Vectors = "tensor"
    relative: bool = True

    def __post_init__(self) -> None:
        if self.vectors not in get_args(Vectors):
            raise ValueError(f"NuSlerp: vectors is {self.vectors!r}; take one of {get_args(Vectors)}")
        object.__setattr__(self, "by_row", self.vectors == "rows")

    def survey(self, blocks: Blocks) -> Any:
        at_most_two(self, blocks.names)

    def measure(self, block: Block, survey: Any) -> Any:  # -> (m,), (columns, 2), or the share t
        if len(block) == 1:
            return torch.ones(1, dtype=torch.float64)
        t = self._share(block)
        columns = block.shape[1:].numel()
        if self.vectors == "rows" and block.shape:
            return t
        if self.vectors == "columns" and columns > 1:
            return arc(self._column_gramians(block, columns), t, _collinear(block.dtype))
        return arc(gramian_of(block, self.relative), t, _collinear(block.dtype))

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        if isinstance(measured, Tensor) and measured.dim() == 1:
            return combined(part, measured, self.relative)
        found = vectors(part, self.relative)
        if isinstance(measured, Tensor):
            weights = measured[_columns(part, len(measured))].T.to(found.dtype)
        else:
            found = found.view(2, -1, part.block.shape[-1])
            weights = arc(row_gramians(found), measured, _collinear(found.dtype)).T[..., None].to(found.dtype)
        merged = (weights * found).sum(0).view(part.shape)
        return part.base + merged if self.relative and part.block.origin is not None else merged

    def _share(self, block: Block) -> float:
        return float(normalized(values_of(self.weight, block.names), block.names)[1])

    def _column_gramians(self, block: Block, columns: int) -> Tensor:  # -> (columns, 2, 2)
        sums = torch.zeros(3, columns, dtype=torch.float64)
        for part in block.parts():
            one, two = vectors(part, self.relative).double()
            at = _columns(part, columns)
            for total, products in zip(sums, (one * one, one * two, two * two), strict=True):
                total.index_add_(0, at, products)
        return sums[[0, 1, 1, 2]].T.view(columns, 2, 2)


def _columns(part: Part, columns: int) -> Tensor:  # -> (k,)
    return torch.arange(part.start, part.stop) % columns


def _collinear(dtype: torch.dtype) -> float:
    """The cosine above which two vectors of a dtype cannot be told from collinear ones."""
    return 1 - 2 * torch.finfo(dtype).eps
