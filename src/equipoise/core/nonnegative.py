"""Quadratic programs over the non-negative orthant, many at once, exactly.

Block principal pivoting (Júdice & Pires 1994; Kim & Park 2011) guesses which variables are free,
solves for them, and exchanges all that come out with the wrong sign. A program that does not settle is
led there by proximal points (Rockafellar 1976), and one that still does not by an active set method
that always ends (Lawson & Hanson 1974, chapter 23).
"""

import numpy as np
from scipy.linalg import get_lapack_funcs

from equipoise.core.scaled import Array

(POSV,) = get_lapack_funcs(("posv",), dtype=np.float64)  # Cholesky

SINGULAR = 1e-8  # least eigenvalue below which a matrix counts as singular
ROUNDING = 1e-13
EXCHANGES = 30
BATCHED = 40  # up to this size all programs are solved in one masked batch
COARSE = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10)  # shares of the identity, from easy to exact
FINE = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
POLISH = 6


def nonnegative(matrix: Array, linear: Array, floor: float) -> Array:  # (m, m), (k, m) -> (k, m)
    """Rows z of argmin_{z >= 0} z'Mz / 2 + q'z, one for each row q of `linear`.

    M is symmetric positive semidefinite with a diagonal of order one, `floor` its least eigenvalue
    (or a bound below it), every q lies in its range and is of order one at most. Where M is
    singular the proximal points lead to one solution near the origin, whatever the order of rows.
    """
    if floor < SINGULAR:
        return _proximal(matrix, linear, singular=True)
    found, _, left = _pivot(matrix, linear, linear < 0)
    if left.size:
        found[left] = _proximal(matrix, linear[left], singular=False)
    return found


def _proximal(matrix: Array, linear: Array, singular: bool) -> Array:  # (m, m), (k, m) -> (k, m)
    """Proximal points z <- argmin z'Mz / 2 + q'z + t |z - previous|^2 / 2, t falling.

    Each program starts from the free variables of the one before, of which few change.
    """
    previous, free = np.zeros_like(linear), linear < 0
    shares = COARSE if len(matrix) <= BATCHED else FINE
    for share in (*shares, *((shares[-1],) * POLISH if singular else (0.0,))):
        regular = matrix + share * np.eye(len(matrix))
        shifted = linear - share * previous
        found, free, left = _pivot(regular, shifted, free)
        for program in left:
            found[program] = active_set(regular, shifted[program], found[program])
            free[program] = found[program] > 0
        moved = share * np.abs(found - previous).max(initial=0.0)
        previous = found
        if moved <= ROUNDING * (1.0 + found.max(initial=0.0)):
            break
    return previous


def _pivot(matrix: Array, linear: Array, free: np.ndarray) -> tuple[Array, np.ndarray, np.ndarray]:
    """Solutions, their free sets, and which programs did not settle, from a guess of the free sets.

    The matrix is positive definite.
    """
    found, free = np.zeros_like(linear), free.copy()
    left = np.arange(len(linear))
    least = np.full(len(linear), linear.shape[1] + 1)  # fewest wrong signs seen
    patience = np.full(len(linear), 3)
    for _ in range(EXCHANGES):
        now = free[left]
        z = _solve_free(matrix, linear[left], now)
        gradient = z @ matrix + linear[left]
        slack = ROUNDING * (1.0 + np.abs(z).max(axis=1, keepdims=True))
        wrong = np.where(now, z, gradient) < -slack
        found[left] = np.maximum(z, 0.0)
        count = wrong.sum(axis=1)
        keep = count > 0
        if not keep.any():
            return found, free, left[:0]
        left, wrong, count = left[keep], wrong[keep], count[keep]
        better = count < least[left]
        least[left] = np.where(better, count, least[left])
        patience[left] = np.where(better, 3, patience[left] - 1)
        for row in np.flatnonzero(patience[left] < 0):  # Murty's rule, which cannot cycle
            wrong[row, : np.flatnonzero(wrong[row])[-1]] = False
        free[left] ^= wrong
    return found, free, left


def _solve_free(matrix: Array, linear: Array, free: np.ndarray) -> Array:  # (m, m), (k, m) -> (k, m)
    """Minimise over the free variables of each program, the others held at zero."""
    if len(matrix) <= BATCHED:
        mask = free.astype(np.float64)
        systems = matrix * (mask[:, :, None] * mask[:, None, :])
        diagonal = np.arange(len(matrix))
        systems[:, diagonal, diagonal] += 1.0 - mask
        solved = np.linalg.solve(systems, (-linear * mask)[:, :, None])[:, :, 0]
        return np.asarray(solved, dtype=np.float64)
    z = np.zeros_like(linear)
    for row, chosen in enumerate(free):
        index = np.flatnonzero(chosen)
        if index.size:
            system, right = matrix.take(index, 0).take(index, 1), -linear[row, index]
            _, solved, failed = POSV(system.T, right, overwrite_a=False)
            z[row, index] = np.linalg.solve(system, right) if failed else solved
    return z


def active_set(matrix: Array, linear: Array, start: Array) -> Array:  # (m, m), (m,), (m,) -> (m,)
    """One program from a feasible `start`: every step lowers the objective or drops a variable."""
    z, free = start.copy(), start > 0
    barred = np.zeros_like(free)  # variables that rounding alone would let in
    for _ in range(20 * len(linear)):
        target = _solve_free(matrix, linear[None], free[None])[0]
        blocked = free & (target <= 0)
        if blocked.any():
            barred |= blocked & (z <= 0)
            ratios = z[blocked] / (z[blocked] - target[blocked] + (z[blocked] <= 0))
            least = ratios.min()
            z = np.where(free, np.maximum(z + least * (target - z), 0.0), 0.0)
            free[np.flatnonzero(blocked)[ratios <= least]] = False
            z[~free] = 0.0
            continue
        if np.abs(target - z).max() > 0:
            barred[:] = False
        z = target
        gradient = np.where(free | barred, 0.0, z @ matrix + linear)
        entering = int(gradient.argmin())
        if gradient[entering] >= -ROUNDING * (1.0 + z.max()):
            break
        free[entering] = True
    return z
