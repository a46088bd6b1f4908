"""The Gramian of m directions, accumulated block by block, and the conflict it shows."""

from dataclasses import dataclass

import torch
from torch import Tensor

EXACT = 65_536
"""Numbers up to which a block is multiplied in float64."""

CHUNK = 8_192
"""Columns per partial product of a longer block, in float32 at least, summed in float64. Chunks of
65,536 columns were no faster and 20 times less accurate (1.5e-6 against 7.6e-8 of the largest entry,
8 rows of 1,048,576 columns)."""

WINDOW = 32 * CHUNK
"""Columns multiplied in one call."""

_SAFE = (1e-24, 1e36)


def block_gramian(rows: Tensor, others: Tensor | None = None) -> Tensor:  # (m, *s), (n, *s) -> (m, n)
    """Inner products of the rows of one block with each other, or with those of another block of its shape.

    Returns float64 on the device of `rows`. Where a float32 partial product would leave the range in
    which float32 keeps its digits (gradients near 1e-12 and below, or near 1e18), the block is
    multiplied again in float64.
    """
    left = _flat(rows)
    right = left if others is None else _flat(others)
    coarse = wide(left.dtype)
    if left.numel() <= EXACT:
        return product(left, right, torch.float64)
    gramian = product(left, right, coarse)
    if coarse == torch.float32 and not keeps_digits(gramian.diagonal() if others is None else gramian):
        return product(left, right, torch.float64)
    return gramian


def keeps_digits(squares: Tensor) -> bool:
    """Whether products of this size could be summed in float32."""
    size = squares.abs()
    return bool(((size > _SAFE[0]) & (size < _SAFE[1])).all())


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype to compute in: float32 for anything narrower."""
    return torch.float32 if dtype.itemsize < 4 else dtype


def _flat(rows: Tensor) -> Tensor:  # (m, *s) -> (m, k)
    if rows.layout != torch.strided:
        rows = rows.to_dense()
    return rows.detach().reshape(rows.shape[0], -1)


def product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:  # (m, k), (n, k) -> (m, n)
    """Inner products of rows, multiplied in `dtype` by chunks that are summed in float64."""
    gramian = torch.zeros(len(left), len(right), dtype=torch.float64, device=left.device)
    with torch.autocast(left.device.type, enabled=False):
        for start in range(0, left.shape[1], WINDOW):
            window = left[:, start : start + WINDOW].to(dtype)
            other = window if right is left else right[:, start : start + WINDOW].to(left.device, dtype)
            whole = window.shape[1] // CHUNK * CHUNK
            if whole:
                gramian += torch.bmm(_chunks(window, whole), _chunks(other, whole).mT).sum(
                    0, dtype=torch.float64
                )
            if whole < window.shape[1]:
                gramian += window[:, whole:] @ other[:, whole:].T
    return gramian


def _chunks(rows: Tensor, whole: int) -> Tensor:  # (m, k) -> (chunks, m, CHUNK)
    return rows[:, :whole].unflatten(1, (-1, CHUNK)).transpose(0, 1)


def cosines(gramian: Tensor) -> Tensor:  # (m, m) -> (m, m)
    """Cosine of the angle between each two directions; a zero direction has cosine 0 with the others
    and 1 with itself."""
    norms = gramian.diagonal().clamp(min=0).sqrt()
    scale = torch.where(norms > 0, 1 / norms, 0.0)
    cosine = (scale[:, None] * gramian * scale).clamp(-1, 1)
    return cosine.fill_diagonal_(1.0)


@dataclass(frozen=True, slots=True)
class Conflict:
    """How m directions conflict.

    `cosines` is (m, m) float64, `share` the part of the pairs with a cosine below -resolution (0 for m = 1),
    `norm_ratio` the longest over the shortest direction (infinite where one of them is zero).
    """

    cosines: Tensor
    share: float
    norm_ratio: float


def conflict(gramian: Tensor, resolution: float = 0.0) -> Conflict:  # (m, m)
    """The conflict among the directions of a Gramian that is accurate to `resolution`."""
    cosine = cosines(gramian)
    m = len(cosine)
    pairs = cosine[*torch.triu_indices(m, m, 1)]
    share = float((pairs < -resolution).double().mean()) if m > 1 else 0.0
    norms = gramian.diagonal().clamp(min=0).sqrt()
    shortest, longest = float(norms.min()), float(norms.max())
    ratio = longest / shortest if shortest > 0 else (float("inf") if longest > 0 else 1.0)
    return Conflict(cosine, share, ratio)
