"""Singular vectors and orthonormal factors of matrices, from the shorter side."""

from typing import NamedTuple

import torch
from torch import Tensor


class Triples(NamedTuple):
    """Singular triples in float64, the largest first: matrix = left * values @ right."""

    left: Tensor  # (out, k)
    values: Tensor  # (k,)
    right: Tensor  # (k, in)


def triples(matrix: Tensor, keep: int | None = None) -> Triples:  # (out, in) -> k triples
    """The `keep` largest singular triples, or all, of those that stand above the rounding of the matrix.

    A float32 matrix is decomposed by the eigenvectors of A A^T or A^T A, whichever is smaller, in float64:
    their squares keep the 7 digits that the numbers have, and time and memory go with the shorter side. A
    float64 matrix goes through its singular value decomposition.
    """
    if matrix.dtype == torch.float64:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        kept = slice(0, _above(values, matrix, keep))
        return Triples(left[:, kept], values[kept], right[kept])
    if matrix.shape[0] < matrix.shape[1]:
        turned = triples(matrix.T, keep)
        return Triples(turned.right.T, turned.values, turned.left.T)
    tall = matrix.double()
    squares, vectors = torch.linalg.eigh(tall.T @ tall)
    values = squares.clamp_(min=0).sqrt_().flip(0)
    kept = _above(values, matrix, keep)
    right = vectors[:, vectors.shape[1] - kept :].flip(1)
    return Triples((tall @ right).div_(values[:kept]), values[:kept], right.T)


def polar(matrix: Tensor, rounding: torch.dtype) -> tuple[Tensor, Tensor]:  # (a, b) -> (a, b), (min(a, b),)
    """The orthonormal factor U V^T of a matrix U S V^T, in float64, and its singular values.

    Directions whose singular value drowns in the rounding of dtype `rounding` are left out of U V^T, so that
    it is a partial isometry: nothing stands for them, where a full decomposition would make vectors up.
    """
    if matrix.shape[0] < matrix.shape[1]:
        factor, values = polar(matrix.T, rounding)
        return factor.T, values
    if rounding == torch.float64:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        kept = _above(values, matrix)
        return left[:, :kept] @ right[:kept], values
    tall = matrix.double()
    squares, vectors = torch.linalg.eigh(tall.T @ tall)
    values = squares.clamp_(min=0).sqrt_().flip(0)
    kept = vectors[:, len(values) - _above(values, torch.empty(0, dtype=rounding)) :]
    root = (kept / values[: kept.shape[1]].flip(0)) @ kept.T
    return tall @ root, values


def _above(values: Tensor, matrix: Tensor, keep: int | None = None) -> int:
    """How many of the falling values, `keep` at most, stand above the rounding of a matrix's dtype."""
    if not len(values):
        return 0
    floor = 4 * torch.finfo(matrix.dtype).eps * len(values) ** 0.5 * values[0]
    above = int((values > floor).sum())
    return above if keep is None else min(keep, above)
