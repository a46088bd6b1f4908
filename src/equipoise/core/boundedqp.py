"""The min-norm point with bounds on the weights, exactly, by an active set method."""

import numpy as np
import torch
from torch import Tensor

from equipoise.core.qp import Solution
from equipoise.core.scaled import Array, as_array

RIDGE = 1e-10
"""Of the identity, relative to the largest squared length: makes the solution unique."""
POLISH = 8
"""Proximal steps, at most, that take the ridge out again."""
ROUNDING = 1e-13
"""Differences of derivatives, relative to the largest squared length, that are not followed."""


def bounded_min_norm(gramian: Tensor, lower: Tensor, upper: Tensor) -> Solution:  # (m, m), (m,), (m,) -> (m,)
    """The combination of the directions with the least norm, weights within bounds and of sum 1.

    argmin w'Gw over lower <= w <= upper, sum w = 1, with G = `gramian`, float64. Unlike `min_norm` it
    does not scale rows to one length: give it rows of comparable lengths. `residual` is the largest
    gain per weight moved from one direction to another that the bounds allow, relative to the largest
    squared length; 0 at the solution.

    Raises ValueError where no weights of sum 1 lie within the bounds.
    Source: active set method for convex programs (Nocedal & Wright 2006, algorithm 16.3).

    >>> third = torch.full((2,), 1 / 3)
    >>> bounded_min_norm(torch.tensor([[4.0, 0.0], [0.0, 1.0]]), third, 1 - third).value
    tensor([0.3333, 0.6667], dtype=torch.float64)
    """
    matrix, low, high = as_array(gramian), as_array(lower), as_array(upper)
    if bool((low > high).any()) or low.sum() > 1 + 1e-9 or high.sum() < 1 - 1e-9:
        raise ValueError(f"no weights of sum 1 lie between {low.tolist()} and {high.tolist()}")
    size = float(np.abs(matrix.diagonal()).max(initial=0.0))
    room = high - low
    weights = low + room * ((1 - low.sum()) / room.sum() if room.sum() > 0 else 0.0)
    if size == 0:
        return Solution(torch.from_numpy(weights), 0.0)
    matrix = (matrix + matrix.T) / (2 * size)
    ridged = matrix + RIDGE * np.eye(len(matrix))
    for _ in range(POLISH):
        before = weights
        weights = _active_set(ridged, -RIDGE * before, low, high, before)
        if RIDGE * np.abs(weights - before).max(initial=0.0) <= ROUNDING:
            break
    return Solution(torch.from_numpy(weights), _gain(matrix @ weights, weights, low, high)[0])


def _active_set(matrix: Array, linear: Array, low: Array, high: Array, start: Array) -> Array:
    """argmin w'Mw / 2 + q'w within the bounds at the sum of `start`, a point within them."""
    weights, m = start.copy(), len(start)
    free = (weights > low) & (weights < high)
    for turn in range(50 * m):
        step = _to_optimum(matrix, matrix @ weights + linear, free)
        reach = np.full(m, np.inf)
        up, down = step > 0, step < 0
        reach[up] = (high - weights)[up] / step[up]
        reach[down] = (low - weights)[down] / step[down]
        first = int(reach.argmin())
        if reach[first] < 1:
            weights = np.clip(weights + max(reach[first], 0.0) * step, low, high)
            weights[first] = high[first] if up[first] else low[first]
            free[first] = False
            continue
        weights = np.clip(weights + step, low, high)
        gain, rising, falling = _gain(matrix @ weights + linear, weights, low, high, by_index=turn > 10 * m)
        if gain <= ROUNDING:
            break
        free[[rising, falling]] = True
    return weights


def _to_optimum(matrix: Array, slope: Array, free: np.ndarray) -> Array:
    """The step to the optimum over the free weights, their sum and the others held."""
    step, places = np.zeros_like(slope), np.flatnonzero(free)
    if places.size > 1:
        k = places.size
        system = np.ones((k + 1, k + 1))
        system[:k, :k] = matrix[np.ix_(places, places)]
        system[k, k] = 0.0
        step[places] = np.linalg.solve(system, np.append(-slope[places], 0.0))[:k]
    return step


def _gain(
    slope: Array, weights: Array, low: Array, high: Array, *, by_index: bool = False
) -> tuple[float, int, int]:
    """What moving weight from one direction to another gains at most, and which is to rise, which to fall.

    `by_index` takes the first pair that gains instead of the best one, which cannot cycle.
    """
    rises, falls = weights < high, weights > low
    if not rises.any() or not falls.any():
        return 0.0, 0, 0
    rising = int(np.where(rises, slope, np.inf).argmin())
    falling = int(np.where(falls, slope, -np.inf).argmax())
    gain = max(float(slope[falling] - slope[rising]), 0.0)
    if by_index and gain > ROUNDING:
        rising = int(np.flatnonzero(rises & (slope < slope[falling] - ROUNDING))[0])
    return gain, rising, falling
