"""The values of every coordinate in order, for rules that look at ranks."""

from math import ceil

import torch
from torch import Tensor


def ordered(rows: Tensor) -> Tensor:  # (m, k) -> (m, k)
    """Each column sorted, the smallest first; a column that holds NaN is all NaN, so that none is lost.

    >>> ordered(torch.tensor([[2.0, 0.0], [1.0, float("nan")]]))
    tensor([[1., nan],
            [2., nan]])
    """
    values = rows.sort(0).values
    return torch.where(values[-1].isnan(), torch.nan, values)


def middle(rows: Tensor) -> Tensor:  # (m, k) -> (k,)
    """The median of each column; of an even number of rows the mean of the middle two."""
    m = len(rows)
    return ordered(rows)[(m - 1) // 2 : m // 2 + 1].mean(0)


def cut(m: int, share: float) -> int:
    """How many of m values are a share of them, rounded up, at each end; one or two always remain."""
    return min(ceil(share * m - 1e-9), (m - 1) // 2)
