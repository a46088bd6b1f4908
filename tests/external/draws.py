"""Random Gramians and Jacobians, of every rank and of many scales."""

from collections.abc import Iterator

import torch
from torch import Tensor

SCALES = (1e-6, 1e-3, 1.0, 1e3, 1e6)


def jacobians(count: int, *, full_rank: bool = False, scales: tuple[float, ...] = SCALES) -> Iterator[Tensor]:
    """`count` matrices (m, k) in float64: m from 2 to 8, ranks 1 to m, one scale each, in a fixed order.

    With `full_rank` they are well conditioned: where singular values nearly vanish, cut-offs decide.
    """
    for number in range(count):
        drawn = torch.Generator().manual_seed(number)
        m = 2 + number % 7
        rank = m if full_rank else 1 + (number // 7) % m
        right = torch.randn(rank, 12, generator=drawn, dtype=torch.float64)
        left = torch.randn(m, rank, generator=drawn, dtype=torch.float64)
        yield (right if full_rank else left @ right) * scales[number % len(scales)]


def apart(one: Tensor, other: Tensor, rows: Tensor) -> float:
    """Distance of two updates, relative to the lengths of the directions."""
    return float((one.double() - other.double()).norm() / rows.norm())
