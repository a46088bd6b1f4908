"""Quadratic programs over the non-negative orthant, many at once, exactly.

Operator splitting with one inverse for all programs of a matrix (Boyd et al. 2011, section 5.2) comes near
enough to show which variables are free. Block principal pivoting (Júdice & Pires 1994; Kim & Park 2011)
solves for these and exchanges all that come out with the wrong sign. Programs that do not settle go to an
active set method that always ends (Lawson & Hanson 1974, chapter 23), all in step.
"""

from math import sqrt

import numpy as np
from scipy.linalg import get_lapack_funcs

from equipoise.core.scaled import Array

(POSV,) = get_lapack_funcs(("posv",), dtype=np.float64)  # Cholesky

SINGULAR = 1e-8  # least eigenvalue below which a matrix counts as singular
SHARE = 1e-10  # of the identity, added where it does
POLISH = 8
ROUNDING = 1e-13
EXCHANGES = 4
BATCHED = 24  # up to this size all programs are solved in one masked batch
ENTRIES = 2**21  # of the systems of such a batch
PENALTY, RELAXED = 1.5, 1.8  # of the splitting, for a diagonal of order one; by the root of m
LAST_SHARE = 3e-4  # the splitting of singular programs goes on with this much of the identity


def nonnegative(
    matrix: Array, linear: Array, floor: Array
) -> Array:  # (g, m, m), (g, n, m), (g,) -> (g, n, m)
    """Rows z of argmin_{z >= 0} z'Mz / 2 + q'z for each of g matrices M, one for each row q of its `linear`.

    M is symmetric positive semidefinite with a diagonal of order one, `floor` its least eigenvalue
    (or a bound below it), every q lies in its range and is of order one at most. Where M is
    singular the solution nearest to the origin is taken, as far as rounding lets it be told.
    """
    count, n, m = linear.shape
    found = np.empty_like(linear)
    step = 1 if m > BATCHED else max(1, ENTRIES // max(n * m * m, 1))
    for first in range(0, count, step):
        part = slice(first, first + step)
        found[part] = _solved(matrix[part], linear[part], floor[part] < SINGULAR)
    return found


def _solved(matrix: Array, linear: Array, singular: np.ndarray) -> Array:
    """As `nonnegative`; for singular matrices proximal points (Rockafellar 1976), of which two mostly do."""
    if not (linear < 0).any():
        return np.zeros_like(linear)
    regular = matrix + (SHARE * singular)[:, None, None] * np.eye(len(matrix[0]))
    if linear.shape[1] > 1:
        found = _settled(regular, linear, _near(matrix, linear, singular))
    else:  # one program of a matrix does not earn the inverse of it
        found, left = _pivot(regular, linear[:, 0], linear[:, 0] < 0, 3 * EXCHANGES)
        found = found[:, None]
        if left.size:
            near = _near(matrix[left], linear[left], singular[left])
            found[left] = _settled(regular[left], linear[left], near)
    places = np.flatnonzero(singular)
    for _ in range(POLISH):
        if not places.size:
            break
        before = found[places]
        after = _settled(regular[places], linear[places] - SHARE * before, before)
        found[places] = after
        moved = SHARE * np.abs(after - before).max(axis=(1, 2), initial=0.0)
        places = places[moved > ROUNDING * (1.0 + after.max(axis=(1, 2), initial=0.0))]
    return found


def _near(matrix: Array, linear: Array, singular: np.ndarray) -> Array:
    """Points near the solutions; where these are many, near the one nearest to the origin."""
    m = len(matrix[0])
    turns = 16 + m // 4
    near = _split(matrix, linear, PENALTY / sqrt(m), turns)
    places = np.flatnonzero(singular)
    if places.size:
        regular = matrix[places] + LAST_SHARE * np.eye(m)
        near[places] = _split(regular, linear[places], 10 * LAST_SHARE, turns + m // 2, near[places])
    return near


def _split(matrix: Array, linear: Array, penalty: float, turns: int, start: Array | None = None) -> Array:
    """A point near the solutions, by the alternating direction method of multipliers, over-relaxed.

    One variable v holds the point, max(v, 0), and the multipliers, min(v, 0); |v| is their difference.
    """
    identity = np.eye(len(matrix[0]))
    inverse = np.linalg.inv(matrix + penalty * identity)
    turn = RELAXED * penalty * inverse - 0.5 * RELAXED * identity
    shift = linear @ (RELAXED * inverse)
    v = np.maximum(-linear, 0.0)
    if start is not None:
        v = start - np.maximum(start @ matrix + linear, 0.0) / penalty
    size, turned = np.empty_like(v), np.empty_like(v)
    for _ in range(turns):
        np.matmul(np.abs(v, out=size), turn, out=turned)
        v *= 1.0 - 0.5 * RELAXED
        v += turned
        v -= shift
    return np.maximum(v, 0.0, out=v)


def _settled(matrix: Array, linear: Array, near: Array) -> Array:  # (g, m, m), (g, n, m) twice -> (g, n, m)
    """The solutions, from points near them; the matrices are positive definite."""
    m = linear.shape[-1]
    programs, starts = linear.reshape(-1, m), near.reshape(-1, m)
    if len(matrix) > 1:
        matrix = matrix.repeat(linear.shape[1], axis=0)
    found, left = _pivot(matrix, programs, starts > 0)
    if left.size:
        found[left] = active_set(_of(matrix, left), programs[left], starts[left])
    return found.reshape(linear.shape)


def _pivot(
    matrix: Array, linear: Array, free: np.ndarray, exchanges: int = EXCHANGES
) -> tuple[Array, np.ndarray]:
    """Solutions, and which programs did not settle, from a guess of the free sets."""
    found, left = np.zeros_like(linear), np.arange(len(linear))
    for _ in range(exchanges):
        z = _solve_free(matrix, linear, free)
        gradient = _times(z, matrix) + linear
        slack = ROUNDING * (1.0 + np.abs(z).max(axis=1, keepdims=True))
        wrong = np.where(free, z, gradient) < -slack
        found[left] = np.maximum(z, 0.0)
        keep = np.flatnonzero(wrong.any(axis=1))
        if not keep.size:
            return found, keep
        left, linear, matrix = left[keep], linear[keep], _of(matrix, keep)
        free = free[keep] ^ wrong[keep]
    return found, left


def active_set(matrix: Array, linear: Array, start: Array) -> Array:  # (k or 1, m, m), (k, m) twice -> (k, m)
    """Programs from feasible starts: every step lowers the objective or drops a variable."""
    found, left = start.copy(), np.arange(len(linear))
    z, free = start.copy(), start > 0
    barred = np.zeros_like(free)  # variables that rounding alone would let in
    for _ in range(20 * linear.shape[1]):
        target = _solve_free(matrix, linear, free)
        blocked = free & (target <= 0)
        stopped = blocked.any(axis=1, keepdims=True)
        barred = np.where(
            stopped, barred | (blocked & (z <= 0)), barred & (target == z).all(1, keepdims=True)
        )
        ratios = np.divide(z, z - target + (z <= 0), out=np.ones_like(z), where=blocked)
        least = ratios.min(axis=1, keepdims=True)
        z = np.where(stopped, np.maximum(z + least * (target - z), 0.0), target)
        free &= ~(blocked & (ratios <= least))
        z[~free] = 0.0
        gradient = np.where(free | barred, 0.0, _times(z, matrix) + linear)
        entering = gradient.argmin(axis=1)[:, None]
        enough = -ROUNDING * (1.0 + z.max(axis=1, keepdims=True))
        short = ~stopped & (np.take_along_axis(gradient, entering, 1) < enough)
        np.put_along_axis(free, entering, np.take_along_axis(free, entering, 1) | short, 1)
        found[left] = z
        keep = np.flatnonzero(stopped | short)
        if not keep.size:
            break
        if keep.size < len(left):
            left, matrix, linear = left[keep], _of(matrix, keep), linear[keep]
            z, free, barred = z[keep], free[keep], barred[keep]
    return found


def _of(matrix: Array, programs: np.ndarray) -> Array:
    """The matrices of some programs, where each has its own."""
    return matrix[programs] if len(matrix) > 1 else matrix


def _times(z: Array, matrix: Array) -> Array:  # (k, m), (k or 1, m, m) -> (k, m)
    return z @ matrix[0] if len(matrix) == 1 else (z[:, None] @ matrix)[:, 0]


def _solve_free(matrix: Array, linear: Array, free: np.ndarray) -> Array:  # (k or 1, m, m), (k, m) -> (k, m)
    """Minimise over the free variables of each program, the others held at zero."""
    m = linear.shape[1]
    if m <= BATCHED:
        mask = free.astype(np.float64)
        systems = matrix * (mask[:, :, None] * mask[:, None, :])
        systems.reshape(len(mask), -1)[:, :: m + 1] += 1.0 - mask
        solved = np.linalg.solve(systems, (-linear * mask)[:, :, None])[:, :, 0]
        return np.asarray(solved, dtype=np.float64)
    z = np.zeros_like(linear)
    for row, chosen in enumerate(free):
        index = np.flatnonzero(chosen)
        if index.size:
            whole = matrix[row if len(matrix) > 1 else 0]
            system, right = whole.take(index, 0).take(index, 1), -linear[row, index]
            _, solved, failed = POSV(system.T, right, overwrite_a=False)
            z[row, index] = np.linalg.solve(system, right) if failed else solved
    return z
