"""Levenberg-Marquardt for sums of Huber losses, many problems of one kind at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

Array = np.ndarray
STEPS, WINDOW, ENOUGH, RUNG = 300, 10, 1e-10, 40


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
            total = total + ((u @ self.penalty) * u).sum(1)
        return total

    def take(self, rows: Array) -> Self:
        """Some of the problems, by places or by a mask."""
        return replace(self, weights=self.weights[rows])


def huber(residuals: Array, delta: float) -> Array:
    """r^2 / 2 near 0, delta (|r| - delta / 2) beyond delta.

    >>> huber(np.array([0.5, 3.0]), 1.0).tolist()
    [0.125, 2.5]
    """
    size = np.abs(residuals)
    return np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))


@np.errstate(all="ignore")  # a trial may leave the range of floats; it is no better, then
def minimised(problem: Problem, start: Array, steps: int = STEPS) -> tuple[Array, Array]:
    """Ends (B, p) and objectives (B,), of each problem from its own start (B, p).

    A step solves the normal equations of the rows within delta, with a part of a bounding curvature for the
    others; it is taken where the objective falls, and damped more where it does not. A problem has ended, and
    leaves the batch, when ten steps together lower its objective by no more than 1e-10 of itself; all have
    after `steps`.
    """
    ends, values, place = start.copy(), np.full(len(start), np.inf), np.arange(len(start))
    u, past = start, values.copy()
    r, slopes = problem.residuals(u)
    value = problem.objective(u, r)
    damping = np.full(len(u), 1e-3)
    outer = np.ones(len(u))  # the part of the bound's curvature that rows beyond delta get
    for count in range(steps):
        if count % WINDOW == 0:
            ends[place], values[place] = u, value
            on = value < past * (1 - ENOUGH)  # False of what is not finite
            place, problem = place[on], problem.take(on)
            u, r, slopes, value, damping, outer = (part[on] for part in (u, r, slopes, value, damping, outer))
            past = value
        if not len(place):
            break
        trial = u + _step(problem, u, r, slopes, damping, outer)
        new_r, new_slopes = problem.residuals(trial)
        new = problem.objective(trial, new_r)
        better = new < value
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-14, 1e10)
        outer = np.clip(np.where(better, outer / 2, outer * 8), 0.01, 1.0)
        u = np.where(better[:, None], trial, u)
        r = np.where(better[:, None], new_r, r)
        slopes = np.where(better[:, None, None], new_slopes, slopes)
        value = np.where(better, new, value)
    ends[place], values[place] = u, value
    return ends, np.where(np.isfinite(values), values, np.inf)


def raced(problem: Problem, start: Array) -> Array:  # (B, p) -> (1, p)
    """Where the best of several starts of one problem has come to.

    Successive halving: all go 40 steps, the better half of them 80 more, and so on until one is left.
    """
    u, steps = start, RUNG
    while len(u) > 1:
        u, values = minimised(problem, u, steps)
        best = np.argsort(values)[: (len(u) + 1) // 2]
        u, problem, steps = u[best], problem.take(best), 2 * steps
    return u


def _step(problem: Problem, u: Array, r: Array, slopes: Array, damping: Array, outer: Array) -> Array:
    size = np.maximum(np.abs(r), 1e-300)
    inside = size <= problem.delta
    pull = problem.weights * np.where(inside, r, problem.delta * np.sign(r))
    # rows beyond delta have no curvature of their own
    curve = problem.weights * np.where(inside, 1.0, outer[:, None] * problem.delta / size)
    across = slopes.transpose(0, 2, 1)
    gradient = (across @ pull[..., None])[..., 0]
    matrix = across @ (slopes * curve[:, :, None])
    if problem.penalty is not None:
        both = problem.penalty + problem.penalty.T
        gradient = gradient + u @ both
        matrix = matrix + both
    diagonal = np.einsum("bpp->bp", matrix)
    floor = 1e-12 * diagonal.max(1, keepdims=True) + 1e-300
    matrix = matrix + damping[:, None, None] * np.eye(u.shape[1]) * np.maximum(diagonal, floor)[:, None]
    found = -np.linalg.solve(matrix, gradient[..., None])[..., 0]
    return np.clip(np.nan_to_num(found), -3.0, 3.0)
