"""Passthrough: one model as it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.errors import unknown
from equipoise.merging.block import Blocks, Part
from equipoise.merging.mergerule import MergeRule

CARD = Card(
    name="Passthrough",
    shape="merge",
    summary="One model's tensors as they are, scaled if wanted",
    formula="s theta_i",
    title="mergekit, method passthrough",
    authors=("Goddard",),
    venue="mergekit",
    year=2023,
    cost="one pass; memory of a part",
    use="tensors that are to come from one model: heads, embeddings, stacked layers",
    avoid="models that are to be merged",
    single="the model times s",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class Passthrough(MergeRule):
    """One model's tensors as they are: s theta_i.

    `model`: which one, where there are several. `scale`: s.

    Raises ValueError where there are several models and none is named, for an unknown name, and where the
    named model lacks a tensor.

    Source: mergekit 0.1.5, passthrough.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> models = {"a": {"w": torch.zeros(2)}, "b": {"w": torch.ones(2)}}
    >>> merge(models, method=Passthrough(model="b", scale=2.0))["w"]
    tensor([2., 2.])
    """

    model: str | None = None
    scale: float = 1.0

    per_model: ClassVar[tuple[str, ...]] = ()

    def bound(self, names: Sequence[str]) -> Self:
        if self.model is not None and self.model not in names:
            raise ValueError(f"Passthrough: {unknown('model', self.model, names)}")
        return self

    def survey(self, blocks: Blocks) -> Any:
        if self.model is None and len(blocks.names) > 1:
            raise ValueError(
                f"Passthrough takes one of {len(blocks.names)} models; say which by model="
                f"{blocks.names[0]!r}, or one of {', '.join(blocks.names[1:])}"
            )

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        if self.model is not None and self.model not in part.names:
            raise ValueError(f"Passthrough: {self.model} has no tensor {part.block.name!r}")
        row = part.rows[0 if self.model is None else part.names.index(self.model)]
        return row if self.scale == 1 else self.scale * row
