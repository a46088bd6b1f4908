"""The two quadratic programs of gradient aggregation: the min-norm point and the dual cone.

Both are solved on the Gramian of the unit rows, so that neither the size of the directions nor
their ratios reach the arithmetic, and both return how far the answer is from the optimality
conditions. m up to 256.
"""

from collections.abc import Callable, Iterable, Sequence
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from equipoise.core.nonnegative import nonnegative
from equipoise.core.scaled import Array, Scaled, as_array, scaled


class Solution(NamedTuple):
    """An answer and its certificate.

    `residual` is the largest violation of the Karush-Kuhn-Tucker conditions, measured on unit rows
    and relative to the largest entry of the answer there.
    """

    value: Tensor
    residual: float


def min_norm(gramian: Tensor) -> Solution:  # (m, m) -> (m,) or (g, m, m) -> (g, m)
    """The convex combination of the directions with the least norm.

    argmin w'Gw over w >= 0, sum w = 1, with G = `gramian` (Désidéri 2012; Wolfe 1976).
    Zero rows, where there are any, share the weight; of several solutions the evenest on unit
    rows is taken. A Gramian that noise has made indefinite is first clamped to a true one.
    A stack of Gramians is solved all at once, with the largest residual of them.

    >>> min_norm(torch.tensor([[4.0, -2.0], [-2.0, 2.0]])).value
    tensor([0.4000, 0.6000], dtype=torch.float64)
    """
    array = as_array(gramian)
    m = array.shape[-1]
    if m == 1:
        return Solution(torch.ones(array.shape[:-1], dtype=torch.float64), 0.0)
    if m == 2:
        return _one_by_one(array.reshape(-1, 2, 2), _min_norm_of_two, array.shape[:-1])
    unit = scaled(array.reshape(-1, m, m))
    absent = unit.norms == 0
    weights = absent / np.maximum(absent.sum(axis=-1, keepdims=True), 1)
    residual, places = 0.0, np.flatnonzero(~absent.any(axis=-1))
    if places.size:
        if places.size < len(absent):
            unit = Scaled(*(part[places] for part in unit))
        # min |z'U|^2 + (1 - a'z)^2 over z >= 0, U the unit rows, ends at a multiple of norms * w
        pull = unit.norms.min(axis=-1, keepdims=True) / unit.norms
        shifted = unit.cosines + pull[:, :, None] * pull[:, None]
        z = nonnegative(shifted, -pull[:, None], unit.floor)[:, 0] * pull
        weights[places] = z / z.sum(axis=-1, keepdims=True)
        residual = _simplex_residual(unit, weights[places])
    return Solution(torch.from_numpy(weights.reshape(array.shape[:-1])), residual)


def dual_cone(gramian: Tensor, targets: Tensor) -> Solution:  # (m, m), (n, m) -> (n, m)
    """Weights of the nearest direction to each target that conflicts with no row.

    argmin v'Gv over v >= u for each row u of `targets`, with G = `gramian`: the direction J'v is
    the projection of J'u on the dual cone {d : Jd >= 0} (Quinton & Rey 2024, proposition 1). Of
    several solutions the one nearest to u on unit rows is taken. An indefinite Gramian is clamped.
    A stack of Gramians (g, m, m) is solved all at once, for the same targets or with (g, n, m) for
    its own, to (g, n, m), with the largest residual of them.

    >>> dual_cone(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]), torch.eye(2)).value
    tensor([[1.0000, 1.0000],
            [0.5000, 1.0000]], dtype=torch.float64)
    """
    array, lower = as_array(gramian), as_array(targets)
    m, stack = array.shape[-1], array.shape[:-2]
    if lower.ndim < 2 or lower.shape[-1] != m or lower.shape[:-2] not in ((), stack):
        own = f" or ({stack[0]}, n, {m})" if len(stack) == 1 else ""
        raise ValueError(f"targets must be (n, {m}){own} for a Gramian of {m} rows, got {lower.shape}")
    shape = (*stack, *lower.shape[-2:])
    array = array.reshape(-1, m, m)
    lower = np.broadcast_to(lower, shape).reshape(len(array), shape[-2], m)
    if m == 2 and lower.min(initial=0.0) >= 0:
        return _one_by_one(zip(array, lower, strict=True), lambda pair: _dual_cone_of_two(*pair), shape)
    unit = scaled(array)
    lengths = lower * unit.norms[:, None]
    sizes = np.abs(lengths).max(axis=-1, keepdims=True, initial=0.0)
    sizes[sizes == 0] = 1.0
    lengths /= sizes
    extra = nonnegative(unit.cosines, lengths @ unit.cosines, unit.floor)
    extra *= (unit.norms > 0)[:, None]
    raised = lengths + extra
    violation = np.abs(np.minimum(extra, raised @ unit.cosines)).max(axis=-1, initial=0.0)
    residual = violation / np.maximum(np.abs(raised).max(axis=-1, initial=0.0), 1.0)
    divisor = np.where(unit.norms > 0, unit.norms, 1.0)
    value = lower + extra * sizes / divisor[:, None]
    return Solution(torch.from_numpy(value.reshape(shape)), float(residual.max(initial=0.0)))


def _one_by_one(subjects: Iterable[Any], solve: Callable[[Any], Solution], shape: Sequence[int]) -> Solution:
    found = [solve(subject) for subject in subjects]
    if not found:
        return Solution(torch.zeros(shape, dtype=torch.float64), 0.0)
    values = torch.stack([one.value for one in found]).reshape(shape)
    return Solution(values, max(one.residual for one in found))


def _simplex_residual(unit: Scaled, weights: Array) -> float:
    """Complementarity of the weights and of what each row lies beyond the min-norm point."""
    lengths = weights * unit.norms
    reached = (unit.cosines @ lengths[..., None])[..., 0]
    beyond = reached - (lengths * reached).sum(axis=-1, keepdims=True) / unit.norms
    violation = np.abs(np.minimum(lengths, beyond)).max(axis=-1)
    return float((violation / lengths.max(axis=-1)).max())


def _min_norm_of_two(array: Array) -> Solution:
    p, q, c = _entries(array)
    if p == 0 or q == 0:
        first = 0.5 if p == q else float(p == 0)
        return Solution(torch.tensor([first, 1.0 - first], dtype=torch.float64), 0.0)
    at_an_end = 0.5 if p == q else float(p < q)
    first = at_an_end if c >= min(p, q) else (q - c) / ((p - c) + (q - c))
    second = 1.0 - first
    a, b = sqrt(p), sqrt(q)
    reach = (p * first + c * second, c * first + q * second)
    square = max(first * reach[0] + second * reach[1], 0.0)
    lengths = (first * a, second * b)
    beyond = ((reach[0] - square) / a, (reach[1] - square) / b)
    violation = max(abs(min(lengths[0], beyond[0])), abs(min(lengths[1], beyond[1])))
    return Solution(torch.tensor([first, second], dtype=torch.float64), violation / max(lengths))


def _dual_cone_of_two(array: Array, targets: Array) -> Solution:
    p, q, c = _entries(array)
    a, b = sqrt(p) or 1.0, sqrt(q) or 1.0
    rows, residual = [], 0.0
    for first, second in targets.tolist():
        raised = [first, second]
        if p * first + c * second < 0:
            raised[0] = -c / p * second
        elif c * first + q * second < 0:
            raised[1] = -c / q * first
        reach = ((p * raised[0] + c * raised[1]) / a, (c * raised[0] + q * raised[1]) / b)
        extra = ((raised[0] - first) * a, (raised[1] - second) * b)
        violation = max(abs(min(extra[0], reach[0])), abs(min(extra[1], reach[1])))
        size = max(raised[0] * a, raised[1] * b)
        residual = max(residual, violation / size if size else 0.0)
        rows.append(raised)
    return Solution(torch.tensor(rows, dtype=torch.float64).reshape(-1, 2), residual)


def _entries(array: Array) -> tuple[float, float, float]:
    """Both squares and the inner product, cut to what two vectors can have."""
    (p, c), (d, q) = array.tolist()
    p, q, c = max(p, 0.0), max(q, 0.0), 0.5 * (c + d)
    bound = sqrt(p) * sqrt(q)
    return p, q, min(max(c, -bound), bound)
