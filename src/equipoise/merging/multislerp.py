"""MultiSlerp: the mean direction of several models, at their mean length."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Block, Part
from equipoise.merging.blockgramian import combined, gramian_of
from equipoise.merging.mergerule import MergeRule, PerModel, normalized, values_of

CARD = Card(
    name="MultiSlerp",
    shape="merge",
    summary="The mean direction of the task vectors, at the mean of their lengths",
    formula="theta_0 + (sum_i w_i |Delta_i|) u / |u|, u = sum_i w_i Delta_i / |Delta_i|",
    title="MultiSLERP",
    authors=("Goddard",),
    venue="goddard.blog",
    year=2025,
    cost="two passes; memory of a part",
    use="several models of one base whose changes point apart: their average would be short",
    avoid="changes that cancel: their mean direction is chance",
    single="the model itself",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class MultiSlerp(MergeRule):
    """The mean direction of the task vectors, or of the models where no base is given, at their mean length.

    theta_0 + L u / |u| with u = sum_i w_i Delta_i / |Delta_i| and L = sum_i w_i |Delta_i|, tensor by tensor.
    `weight`: w; `normalize` divides it by its sum; `relative=False` takes the models themselves although
    there is a base. A zero task vector has a length and no direction. Where the directions cancel, the
    weighted average is taken.

    Raises ValueError where weights sum to zero and are to be normalised.

    Source: mergekit 0.1.5, multislerp, whose step in the tangent space at u / |u| is
    sum_i w_i (u_i - <u_i, u> u / |u|^2) = 0 and is left out here.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> models = [{"w": torch.tensor([2.0, 0.0])}, {"w": torch.tensor([0.0, 4.0])}]
    >>> merge(models, method=MultiSlerp())["w"]
    tensor([2.1213, 2.1213])
    """

    weight: PerModel = 1.0
    normalize: bool = True
    relative: bool = True

    def measure(self, block: Block, survey: Any) -> Any:  # -> (m,)
        if len(block) == 1:
            return torch.ones(1, dtype=torch.float64)
        weights = values_of(self.weight, block.names)
        if self.normalize:
            weights = normalized(weights, block.names)
        return mean_direction(gramian_of(block, self.relative), weights)

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        return combined(part, measured, self.relative)


def mean_direction(gramian: Tensor, weights: Tensor) -> Tensor:  # (m, m), (m,) -> (m,)
    """Weights of the vectors for their mean direction at their mean length; the given ones if they cancel."""
    norms = gramian.diagonal().sqrt()
    unit = torch.where(norms > 0, weights / norms, 0.0)
    square = unit @ gramian @ unit
    if square <= len(norms) * torch.finfo(torch.float32).eps * weights.abs().sum() ** 2:
        return weights
    return (weights @ norms) / square.sqrt() * unit
