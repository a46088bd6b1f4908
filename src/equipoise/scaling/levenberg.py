"""Levenberg-Marquardt for sums of Huber losses, many problems of one kind at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
STEPS, ENOUGH = 300, 1e-15


@dataclass(frozen=True, eq=False)
class Problem:
    """B problems: residuals(u (B, p)) -> r (B, n) and its derivatives (B, n, p); weights (B, n) of the rows;
    delta of the Huber loss; penalty (p, p), of which u'Pu is added, or None."""

    residuals: Callable[[Array], tuple[Array, Array]]
    weights: Array
    delta: float
    penalty: Array | None = None

    def objective(self, u: Array, r: Array) -> Array:  # -> (B,)
        """What is minimised."""
        total = (self.weights * huber(r, self.delta)).sum(1)
        if self.penalty is not None:
            total = total + np.einsum("bp,pq,bq->b", u, self.penalty, u)
        return total


def huber(residuals: Array, delta: float) -> Array:
    """r^2 / 2 near 0, delta (|r| - delta / 2) beyond delta.

    >>> huber(np.array([0.5, 3.0]), 1.0).tolist()
    [0.125, 2.5]
    """
    size = np.abs(residuals)
    return np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))


def minimised(problem: Problem, start: Array) -> tuple[Array, Array]:  # (B, p) -> (B, p), (B,)
    """Ends and objectives, of each problem from its own start.

    A step solves the normal equations of the rows within delta, with a part of a bounding curvature for the
    others; it is taken where the objective falls, and damped more where it does not. Ends where no objective
    falls by 1e-15 of itself any more, or after 300 steps.
    """
    u = start.copy()
    r, slopes = problem.residuals(u)
    value = problem.objective(u, r)
    damping = np.full(len(u), 1e-3)
    alive = np.isfinite(value)
    outer = np.ones(len(u))  # the part of the bound's curvature that rows beyond delta get
    still = np.zeros(len(u), dtype=int)
    for _ in range(STEPS):
        if not alive.any():
            break
        step = _step(problem, u, r, slopes, damping, outer)
        trial = u + np.where(alive[:, None], step, 0.0)
        new_r, new_slopes = problem.residuals(trial)
        new = problem.objective(trial, new_r)
        better = alive & (new < value)
        small = better & (value - new <= ENOUGH * np.abs(value))
        still = np.where(small, still + 4, np.where(better, 0, still + 1))
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-14, 1e10)
        outer = np.clip(np.where(better, outer / 2, outer * 8), 0.01, 1.0)
        u = np.where(better[:, None], trial, u)
        r = np.where(better[:, None], new_r, r)
        slopes = np.where(better[:, None, None], new_slopes, slopes)
        value = np.where(better, new, value)
        alive &= (still < 14) & (damping < 1e9)
    return u, np.where(np.isfinite(value), value, np.inf)


def _step(problem: Problem, u: Array, r: Array, slopes: Array, damping: Array, outer: Array) -> Array:
    size = np.maximum(np.abs(r), 1e-300)
    inside = size <= problem.delta
    pull = problem.weights * np.where(inside, r, problem.delta * np.sign(r))
    # rows beyond delta have no curvature of their own
    curve = problem.weights * np.where(inside, 1.0, outer[:, None] * problem.delta / size)
    gradient = np.einsum("bnp,bn->bp", slopes, pull)
    matrix = np.einsum("bnp,bnq->bpq", slopes * curve[:, :, None], slopes)
    if problem.penalty is not None:
        both = problem.penalty + problem.penalty.T
        gradient = gradient + u @ both
        matrix = matrix + both
    diagonal = np.einsum("bpp->bp", matrix)
    floor = 1e-12 * diagonal.max(1, keepdims=True) + 1e-300
    matrix = matrix + damping[:, None, None] * np.eye(u.shape[1]) * np.maximum(diagonal, floor)[:, None]
    found = -np.linalg.solve(matrix, gradient[..., None])[..., 0]
    return np.clip(np.nan_to_num(found), -3.0, 3.0)
