"""What the rules that merge whole matrices of task vectors share."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.merging.block import Block, Part
from equipoise.merging.mergerule import MergeRule, PerModel, values_of, weighted


@dataclass(frozen=True)
class MatrixRule(MergeRule):
    """The base plus `scale` times the merged task vectors: matrices by `combine`, all else averaged.

    `weight`: of each task vector. `kernels`: take the kernels of convolutions, and all else of three axes or
    more, as matrices (out, in * kernel) too; the papers' codes take what has two axes and average the rest.
    Where embeddings or heads are to be merged otherwise, give `merge` a function from names to rules.
    """

    weight: PerModel = 1.0
    scale: float = 1.0
    kernels: bool = False

    needs_base = True
    whole = True

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        weights = values_of(self.weight, part.names)
        matrices = as_matrices(part.deltas, self.kernels)
        if matrices is None:
            moved = weighted(weights / len(part.names), part.deltas)
        else:
            moved = self.combine(matrices, weights).to(part.base.dtype).reshape(part.shape)
        return torch.add(part.base, moved, alpha=self.scale)

    def cost(self, block: Block) -> float:
        """Decompositions of m matrices by their shorter sides."""
        shape = matrix_shape(block.shape, self.kernels)
        return super().cost(block) * (1 if shape is None else min(shape))

    @abstractmethod
    def combine(self, deltas: Tensor, weights: Tensor) -> Tensor:  # (m, out, in), (m,) float64 -> (out, in)
        """The merged task vector of one layer, of float32 or float64."""


def matrix_shape(shape: torch.Size, kernels: bool) -> tuple[int, int] | None:  # -> (out, in)
    """That of a layer as a matrix; None where it is none."""
    if len(shape) < 2 or (len(shape) > 2 and not kernels) or not shape.numel():
        return None
    return shape[0], shape[1:].numel()


def as_matrices(deltas: Tensor, kernels: bool) -> Tensor | None:  # (m, *shape) -> (m, out, in)
    """The task vectors of a layer as matrices; None where they are none."""
    return None if matrix_shape(deltas.shape[1:], kernels) is None else deltas.flatten(2)


def scaled(deltas: Tensor, weights: Tensor) -> Tensor:  # (m, out, in), (m,) -> (m, out, in)
    """The weighted task vectors, written over the given ones."""
    return deltas if (weights == 1).all() else deltas.mul_(weights.to(deltas.dtype).view(-1, 1, 1))
