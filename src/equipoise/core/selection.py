"""Choosing one of several solutions, after each loss is scaled to its range over them."""

import numpy as np

Array = np.ndarray


def scaled(points: Array) -> Array:  # (n, m) -> (n, m)
    """Each loss from 0, its best value, to 1, its worst; 0 where all are alike."""
    if not len(points):
        return points
    best, worst = points.min(0), points.max(0)
    return (points - best) / np.where(worst > best, worst - best, 1.0)


def compromise(points: Array, preference: Array, by: str) -> int:  # (n, m), (m,) -> place
    """The place of the solution that suits a preference best; see `Front.pick`.

    >>> compromise(np.array([[0.0, 1.0], [0.4, 0.4], [1.0, 0.0]]), np.array([0.9, 0.1]), "tchebycheff")
    0
    """
    losses = scaled(points)
    match by:
        case "tchebycheff":
            distance = (losses * preference).max(1)
        case "asf":
            distance = (losses / np.maximum(preference, 1e-6)).max(1)
        case "weighted":
            distance = losses @ preference
        case _:
            distance = np.linalg.norm(pseudo_weights(points) - preference, axis=1)
    ties = np.flatnonzero(distance <= distance.min() + 1e-12)
    return int(ties[losses[ties].sum(1).argmin()])


def pseudo_weights(points: Array) -> Array:  # (n, m) -> (n, m)
    """How far each loss is below its worst value, scaled to sum 1; uniform where all are at their worst.

    Source: Deb 2001, Multi-Objective Optimization using Evolutionary Algorithms, section 8.6.

    >>> pseudo_weights(np.array([[0.0, 4.0], [1.0, 1.0], [2.0, 0.0]])).round(2).tolist()
    [[1.0, 0.0], [0.4, 0.6], [0.0, 1.0]]
    """
    if not len(points):
        return points
    gains = 1.0 - scaled(points)
    gains = np.where(points.max(0) > points.min(0), gains, 0.0)
    total = gains.sum(1, keepdims=True)
    return np.where(total > 0, gains / np.where(total > 0, total, 1.0), 1.0 / points.shape[1])


def knee(points: Array) -> int:  # (n, m) -> place
    """The place of the solution farthest below the plane through the best solution of each loss.

    Where these do not span a plane, the solution with the least sum of scaled losses.
    Source: Das 1999, "On characterizing the knee of the Pareto curve based on normal-boundary intersection".
    """
    losses = scaled(points)
    ends = losses[[_best(losses, i) for i in range(losses.shape[1])]]  # (m, m)
    try:
        normal = np.linalg.solve(ends, np.ones(len(ends)))
    except np.linalg.LinAlgError:
        normal = np.ones(len(ends))
    if not np.isfinite(normal).all() or (normal <= 0).any():
        normal = np.ones(len(ends))
    return int((losses @ normal).argmin())


def _best(losses: Array, objective: int) -> int:
    """The solution that is best in one loss and, among such, in the sum of the others."""
    ties = np.flatnonzero(losses[:, objective] == losses[:, objective].min())
    return int(ties[losses[ties].sum(1).argmin()])
