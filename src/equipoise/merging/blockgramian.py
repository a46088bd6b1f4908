"""Inner products of the models of one tensor, or of their task vectors, and what is combined by them."""

import torch
from torch import Tensor

from equipoise.core.gramian import block_gramian
from equipoise.merging.block import Block, Part
from equipoise.merging.mergerule import weighted


def vectors(part: Part, relative: bool) -> Tensor:  # -> (m, *shape)
    """The task vectors where `relative` and there is a base, else the models' values."""
    return part.deltas if relative and part.block.origin is not None else part.rows


def gramian_of(block: Block, relative: bool) -> Tensor:  # -> (m, m) float64
    """Inner products of a block's `vectors`, summed part by part."""
    gramian = torch.zeros(len(block), len(block), dtype=torch.float64)
    for part in block.parts():
        gramian += block_gramian(vectors(part, relative))
    return (gramian + gramian.T) / 2


def row_gramians(rows: Tensor) -> Tensor:  # (m, r, k) -> (r, m, m) float64
    """Inner products of the m vectors of each of r rows."""
    wide = rows.double().transpose(0, 1)
    return wide @ wide.mT


def combined(part: Part, weights: Tensor, relative: bool) -> Tensor:  # (m,) -> part.shape
    """The weighted sum of `vectors`, upon the base where they are task vectors; a model alone is itself."""
    if len(part.names) == 1 and bool(weights == 1):
        return part.rows[0]
    found = weighted(weights, vectors(part, relative))
    return part.base + found if relative and part.block.origin is not None else found
