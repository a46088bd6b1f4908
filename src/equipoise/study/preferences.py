"""Points spread over the simplex: the preferences of a study and the weights of its fixed sweep."""

from itertools import count
from math import comb

import numpy as np

from equipoise.core.directions import compositions

Point = tuple[float, ...]


def preferences(m: int, number: int) -> tuple[Point, ...]:
    """The uniform preference, then others, so that `number` of them lie evenly on the simplex.

    Where an even spread of `number` points does not hold the uniform one, it is added.
    """
    uniform = (1 / m,) * m
    return (uniform, *(point for point in spread(m, number) if not _is_uniform(point)))


def weightings(m: int, number: int) -> tuple[Point, ...]:
    """`number` fixed weightings, none of them uniform (that one is Mean), widest first for m = 2."""
    if m == 1:
        return ()
    if m > 2:
        points = tuple(point for point in spread(m, number) if not _is_uniform(point))
        return points if len(points) == number else _drawn(m, number)
    even = spread(2, number + number % 2)
    return tuple(sorted(even, key=lambda p: (-abs(p[0] - p[1]), p))[:number])


def spread(m: int, number: int) -> tuple[Point, ...]:
    """`number` points inside the simplex of m weights, none of them zero.

    Das and Dennis's lattice without its border, {a / H : a_i >= 1, sum a = H}, where it has that many
    points, as it always does for m = 2; else the uniform point and draws from Dirichlet(1, ..., 1).

    >>> spread(2, 3)
    ((0.25, 0.75), (0.5, 0.5), (0.75, 0.25))
    """
    if m == 1:
        return ((1.0,),)
    for height in count(m):
        size = comb(height - 1, m - 1)
        if size == number:
            return tuple(tuple(a / height for a in parts) for parts in compositions(height, m))
        if size > number:
            return ((1 / m,) * m, *_drawn(m, number - 1))
    raise AssertionError


def _drawn(m: int, number: int) -> tuple[Point, ...]:
    draws = np.random.default_rng(0).dirichlet(np.ones(m), size=number)
    return tuple(tuple(map(float, row)) for row in draws)


def _is_uniform(point: Point) -> bool:
    return max(point) - min(point) < 1e-9
