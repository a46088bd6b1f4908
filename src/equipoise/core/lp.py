"""Linear programs of a few variables, such as those over the weights of m directions."""

from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from scipy.optimize import linprog

Array = np.ndarray
SLACK = 1e-9
"""How far a vertex may violate a constraint, in units of its coefficients."""
MOST_BASES = 4000
"""Beyond which a simplex method takes less time than trying every vertex."""


def best_vertex(
    gain: Array,
    rows: Array,
    least: Array,
    total: Array,
) -> Array | None:  # (n,), (k, n), (k,), (n,) -> (n,)
    """The x with the most gain'x among those with rows x >= least and total'x = 1; None where there is none.

    The program must be bounded. Exact: few vertices are all tried, of many the best is found by HiGHS. A
    `least` of minus infinity asks for nothing.

    >>> best_vertex(np.array([1.0, 2.0]), np.eye(2), np.array([0.25, 0.0]), np.ones(2)).tolist()
    [0.25, 0.75]
    """
    size = np.linalg.norm(rows, axis=1)
    if bool(((size == 0) & (least > 0)).any()):
        return None
    asked = (size > 0) & np.isfinite(least)
    rows, least = rows[asked] / size[asked, None], least[asked] / size[asked]
    n = len(gain)
    if len(rows) < n - 1:
        raise ValueError(f"{len(rows)} constraints do not bound a program of {n} variables")
    if comb(len(rows), n - 1) > MOST_BASES:
        return _simplex_method(gain, rows, least, total)
    bases = _bases(len(rows), n - 1)
    matrices = np.concatenate([rows[bases], np.broadcast_to(total, (len(bases), 1, n))], axis=1)
    sides = np.concatenate([least[bases], np.ones((len(bases), 1))], axis=1)
    regular = np.abs(np.linalg.det(matrices)) > 1e-12 * np.linalg.norm(total)
    vertices = np.linalg.solve(matrices[regular], sides[regular][..., None])[..., 0]
    inside = (vertices @ rows.T >= least - SLACK * (1 + np.abs(least))).all(axis=1)
    if not inside.any():
        return None
    vertices = vertices[inside]
    return vertices[(vertices @ gain).argmax()]


def _simplex_method(gain: Array, rows: Array, least: Array, total: Array) -> Array | None:
    found = linprog(-gain, A_ub=-rows, b_ub=-least, A_eq=total[None], b_eq=[1.0], bounds=(None, None))
    return found.x if found.success else None


@lru_cache(maxsize=64)
def _bases(k: int, size: int) -> Array:
    chosen = list(combinations(range(k), size))
    return np.array(chosen, dtype=int).reshape(len(chosen), size)
