"""Slerp: along the arc from one model to another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Block, Blocks, Part
from equipoise.merging.blockgramian import combined, gramian_of
from equipoise.merging.mergerule import MergeRule

CARD = Card(
    name="Slerp",
    shape="merge",
    summary="The point at a share t of the arc from one model to another, tensor by tensor",
    formula="(sin((1 - t) a) theta_1 + sin(t a) theta_2) / sin a, a the angle between theta_1 and theta_2",
    title="Animating rotation with quaternion curves",
    authors=("Shoemake",),
    venue="SIGGRAPH",
    year=1985,
    doi="10.1145/325334.325242",
    cost="two passes; memory of a part",
    use="two models whose tensors point apart: the line between them would shrink them",
    avoid="models near each other, for which it is their average",
    single="the model itself",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class Slerp(MergeRule):
    """The point at a share `t` of the arc between two models, each tensor taken as one vector.

    With a the angle between theta_1 and theta_2, (sin((1 - t) a) theta_1 + sin(t a) theta_2) / sin a.
    `t`: 0 is the first model, 1 the second. `threshold`: where |cos a| is above it, and where a tensor is
    zero, the line (1 - t) theta_1 + t theta_2 is taken, since there is no one arc. Where one of the two lacks
    a tensor, the other's is taken.

    Use it for two models that point apart, since it keeps their length; near ones it merely averages.

    Raises ValueError for three models or more; see MultiSlerp and Karcher.

    Source: Shoemake, SIGGRAPH 1985, section 3.3, on flattened tensors.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> models = {"a": {"w": torch.tensor([2.0, 0.0])}, "b": {"w": torch.tensor([0.0, 2.0])}}
    >>> merge(models, method=Slerp(t=0.5))["w"]
    tensor([1.4142, 1.4142])
    """

    t: float = 0.5
    threshold: float = 0.9995

    per_model: ClassVar[tuple[str, ...]] = ()

    def survey(self, blocks: Blocks) -> Any:
        at_most_two(self, blocks.names)

    def measure(self, block: Block, survey: Any) -> Any:  # -> (m,)
        if len(block) == 1:
            return torch.ones(1, dtype=torch.float64)
        return arc(gramian_of(block, relative=False), self.t, self.threshold)

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        return combined(part, measured, relative=False)


def arc(gramian: Tensor, t: float, threshold: float) -> Tensor:  # (..., 2, 2) -> (..., 2)
    """Weights of two vectors for the point at a share t of their arc.

    Where the cosine is above `threshold` in size, or a vector is zero, of their line.
    """
    norms = gramian.diagonal(dim1=-2, dim2=-1).sqrt()
    product = norms.prod(-1)
    some = product > 0
    cosine = torch.where(some, gramian[..., 0, 1] / torch.where(some, product, 1.0), 1.0).clamp(-1, 1)
    line = cosine.abs() > threshold
    angle = torch.where(line, 0.0, cosine).arccos()
    shares = torch.tensor([1 - t, t], dtype=gramian.dtype)
    curved = (angle[..., None] * shares).sin() / angle.sin()[..., None]
    return torch.where(line[..., None], shares, curved)


def at_most_two(rule: MergeRule, names: Sequence[str]) -> None:
    """Raises ValueError for three models or more."""
    if len(names) > 2:
        raise ValueError(
            f"{type(rule).__name__} merges two models, and {len(names)} are given: {', '.join(names)}; "
            "take MultiSlerp or Karcher"
        )
