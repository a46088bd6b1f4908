"""How good a set of points is, where lower is better in every coordinate."""

import numpy as np

Array = np.ndarray
MARGIN = 0.1
"""Of each range, by which a reference point lies beyond the worst value."""
MOST_OBJECTIVES = 10
"""Beyond which an exact volume of several points takes too long."""


def nondominated(points: Array) -> Array:  # (n, m) -> (n,) bool
    """Which points no other is at least as good as in every coordinate; of equal ones, the first.

    >>> nondominated(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])).tolist()
    [True, True, False, False]
    """
    if not len(points):
        return np.zeros(0, dtype=bool)
    if points.shape[1] == 1:
        return np.arange(len(points)) == points[:, 0].argmin()
    import moocore

    return np.asarray(moocore.is_nondominated(points, keep_weakly=False), dtype=bool)


def beyond(points: Array) -> Array:  # (n, m) -> (m,)
    """A reference point a tenth of each range beyond the worst values.

    Where all are alike, it is a tenth of their size beyond them. Raises ValueError where there is no point.
    """
    if not len(points):
        raise ValueError("the front is empty; give a reference, for there is no worst value to go beyond")
    best, worst = points.min(0), points.max(0)
    size = np.where(worst != 0, np.abs(worst), 1.0)
    return worst + MARGIN * np.where(worst > best, worst - best, size)


def hypervolume(points: Array, reference: Array) -> float:  # (n, m), (m,)
    """The volume of what the points dominate below the reference; a point beyond it adds nothing.

    Raises ValueError for a reference that is not (m,) or not a number, and for more than ten coordinates,
    where the exact volume takes too long.
    """
    m = points.shape[1]
    if np.shape(reference) != (m,):
        raise ValueError(f"the reference has shape {np.shape(reference)}; points have {m} coordinates")
    if np.isnan(reference).any():
        raise ValueError(f"the reference is {np.asarray(reference).tolist()}; give numbers")
    if m > MOST_OBJECTIVES:
        raise ValueError(f"no exact volume in {m} dimensions; {MOST_OBJECTIVES} is the most")
    inside = points[(points < reference).all(1)]
    if not len(inside):
        return 0.0
    if m == 1:
        return float(reference[0] - inside.min())
    import moocore

    return float(moocore.hypervolume(inside[nondominated(inside)], ref=list(map(float, reference))))


def igd_plus(points: Array, known: Array) -> float:  # (n, m), (k, m)
    """The mean over a known front of the distance to the nearest point, counting what is worse only (IGD+);
    infinite where there is no point.

    Source: Ishibuchi et al. 2015, "Modified distance calculation in generational distance and inverted
    generational distance".

    >>> igd_plus(np.array([[0.5, 0.5]]), np.array([[0.0, 0.5], [0.5, 0.0]]))
    0.5
    """
    _check_known(points, known)
    if not len(points):
        return float("inf")
    import moocore

    return float(moocore.igd_plus(points, ref=known))


def epsilon(points: Array, known: Array) -> float:  # (n, m), (k, m)
    """The additive epsilon: the least shift by which the points come to dominate the known front weakly;
    infinite where there is no point.

    Source: Zitzler et al. 2003, "Performance assessment of multiobjective optimizers".
    """
    _check_known(points, known)
    if not len(points):
        return float("inf")
    import moocore

    return float(moocore.epsilon_additive(points, ref=known))


def coverage(points: Array, known: Array, within: float) -> float:  # (n, m), (k, m)
    """The share of a known front that has a point within a distance, after each coordinate is scaled by the
    range of the known front."""
    _check_known(points, known)
    if not len(points):
        return 0.0
    best, worst = known.min(0), known.max(0)
    scale = np.where(worst > best, worst - best, 1.0)
    apart = np.linalg.norm((known[:, None] - points[None]) / scale, axis=2)
    return float((apart.min(1) <= within).mean())


def attainment(sets: list[Array], percentiles: list[float]) -> list[Array]:  # each (n_i, m)
    """The points attained in a share of the runs, one set for each percentile from 0 to 100.

    Points have 2 or 3 coordinates.

    Source: Fonseca, Guerreiro, Lopez-Ibanez, Paquete 2011, "On the computation of the empirical attainment
    function".
    """
    import moocore

    stacked = np.concatenate(sets)
    run = np.repeat(np.arange(1, len(sets) + 1), [len(one) for one in sets])
    found = np.asarray(moocore.eaf(stacked, run, percentiles=percentiles))
    return [found[np.isclose(found[:, -1], percentile), :-1] for percentile in percentiles]


def _check_known(points: Array, known: Array) -> None:
    if known.ndim != 2 or not len(known) or known.shape[1] != points.shape[1]:
        raise ValueError(
            f"the known front has shape {known.shape}; give points of {points.shape[1]} coordinates"
        )
