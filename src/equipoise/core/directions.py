"""Points spread over the simplex: reference directions, and an order from neighbour to neighbour."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count
from math import comb

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray
POOL = 50
"""Random points, for each one wanted, from which the start of a Riesz set is chosen."""
STEPS = 1000
PATIENCE = 30
RATE = 0.005
STILL = 1e-5
"""Mean movement of a coordinate in a step below which a Riesz set is at rest."""
DIGITS = 9
"""Distances that agree in so many digits are the same, so that rounding decides no order."""
INSIDE = 1e-3
"""How far rays are drawn towards the middle, so that none asks for a loss of zero."""


def spread(m: int, n: int) -> Tensor:  # -> (n, m)
    """n directions spread over the simplex of m weights, the corners among them where n allows it.

    The lattice of Das and Dennis where one has n points, as always for m = 2; else points of least Riesz
    energy; the uniform point for n = 1.

    Raises ValueError where m or n is not positive, and for several directions of one objective.

    >>> spread(2, 3)
    tensor([[0.0000, 1.0000],
            [0.5000, 0.5000],
            [1.0000, 0.0000]], dtype=torch.float64)
    """
    _refuse(m, n)
    if n == 1:
        return torch.full((1, m), 1 / m, dtype=torch.float64)
    for partitions in count(1):
        size = comb(partitions + m - 1, m - 1)
        if size == n:
            return das_dennis(m, partitions)
        if size > n:
            return riesz(m, n)
    raise AssertionError


def das_dennis(m: int, partitions: int) -> Tensor:  # -> (n, m)
    """The whole lattice {a / H : a_i >= 0 whole, sum a = H} of the simplex, H = `partitions`.

    It has (H + m - 1) choose (m - 1) points, in lexicographic order. Raises ValueError for sizes below 1.
    Source: Das and Dennis 1998, "Normal-Boundary Intersection".

    >>> len(das_dennis(3, 12))
    91
    """
    if m < 1 or partitions < 1:
        raise ValueError(f"a lattice takes at least 1 weight and 1 partition, got {m} and {partitions}")
    parts = [[a - 1 for a in positive] for positive in compositions(partitions + m, m)]
    return torch.tensor(parts, dtype=torch.float64) / partitions


def riesz(m: int, n: int, *, seed: int = 0) -> Tensor:  # -> (n, m)
    """n points of the simplex whose Riesz energy, sum over pairs of |u - v|^-s with s = 2m, is least.

    Any n can be had, evenly spaced also where lattices are too coarse or too large. Starts from points
    that are far apart among random ones (of `seed`), the corners first; descends with Adam on the
    logarithm of the energy and keeps the best set. The same arguments give the same points, in
    lexicographic order.

    Raises ValueError where m or n is not positive, and for several points of one weight.
    Source: Blank, Deb, Dhebar, Bandaru and Seada 2021, "Generating Well-Spaced Points on a Unit Simplex
    for Evolutionary Many-Objective Optimization"; s and the step as in the authors' code, pymoo.

    >>> riesz(2, 4).round(decimals=2).tolist()
    [[0.0, 1.0], [0.33, 0.67], [0.67, 0.33], [1.0, 0.0]]
    """
    _refuse(m, n)
    return torch.tensor(_riesz(m, n, seed), dtype=torch.float64)


def inverted(directions: Tensor) -> Tensor:  # (n, m) -> (n, m)
    """Each direction's reciprocal, scaled to the simplex: the losses that weights ask for, and back.

    The least of max_i p_i f_i over a front has f proportional to 1 / p. Where entries are zero it is the
    limit: they share all the weight evenly, and what the other entries ask for is lost (see `inwards`).

    >>> inverted(torch.tensor([[0.8, 0.2], [1.0, 0.0]]))
    tensor([[0.2000, 0.8000],
            [0.0000, 1.0000]], dtype=torch.float64)
    """
    given = directions.to(torch.float64)
    absent = given <= 0
    reciprocal = torch.where(absent, 0.0, 1 / given.masked_fill(absent, 1.0))
    found = torch.where(absent.any(-1, keepdim=True), absent.to(torch.float64), reciprocal)
    return found / found.sum(-1, keepdim=True)


def inwards(directions: Tensor, share: float = INSIDE) -> Tensor:  # (n, m) -> (n, m)
    """Directions of the simplex drawn towards its middle by a share of the way.

    At the border of the simplex reciprocals are corners, whatever the other entries; just inside they differ
    from direction to direction.

    >>> inverted(inwards(torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]]))).round(decimals=4).tolist()
    [[0.0007, 0.0007, 0.9987], [0.0013, 0.0004, 0.9982]]
    """
    return (1 - share) * directions.to(torch.float64) + share / directions.shape[-1]


def outwards(points: Tensor) -> list[tuple[int, int | None]]:  # (n, m) -> n of (place, the one to start from)
    """An order for solutions that start from their neighbour's: from the middle of the simplex outwards.

    Each place comes with the nearest of those before it, None for the first. So nobody starts from an end,
    where the slopes that lead away from it may vanish, unless there are few places but ends.

    >>> outwards(spread(2, 5))
    [(2, None), (1, 2), (3, 2), (0, 1), (4, 3)]
    """
    places = points.detach().cpu().double()
    off = (places - places.mean(dim=1, keepdim=True)).norm(dim=1).round(decimals=DIGITS).tolist()
    apart = torch.cdist(places, places).round(decimals=DIGITS).tolist()
    order = sorted(range(len(off)), key=lambda place: (off[place], place))
    found: list[tuple[int, int | None]] = []
    for turn, place in enumerate(order):
        before = [(apart[place][one], off[one], one) for one in order[:turn]]
        found.append((place, min(before)[2] if before else None))
    return found


def far_apart(points: Array, n: int, first: Sequence[int]) -> Array:  # (k, m) -> (n,)
    """The places of n points: the first ones given, then one by one the farthest from those before it."""
    chosen = list(first)
    distance = np.linalg.norm(points[:, None] - points[chosen][None], axis=2).min(1)
    while len(chosen) < n:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen)


def compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to write `total` as an ordered sum of `parts` positive integers."""
    if parts == 1:
        yield (total,)
        return
    for first in range(1, total - parts + 2):
        for rest in compositions(total - first, parts - 1):
            yield (first, *rest)


def _refuse(m: int, n: int) -> None:
    if m < 1 or n < 1:
        raise ValueError(f"directions need at least 1 weight and 1 point, got {m} weights and {n} points")
    if m == 1 and n > 1:
        raise ValueError(f"one objective has one direction; {n} were asked for")


@lru_cache(maxsize=64)
def _riesz(m: int, n: int, seed: int) -> list[list[float]]:
    drawn = np.random.default_rng(seed).dirichlet(np.ones(m), size=POOL * n)
    pool = np.concatenate([np.eye(m), drawn])
    points = pool[far_apart(pool, n, list(range(min(m, n))))]
    best, least, stale = points, np.inf, 0
    rate, first, second, steps = RATE, np.zeros_like(points), np.zeros_like(points), 0
    for _ in range(STEPS if n > 1 else 0):
        energy, slope = _energy(points, 2 * m)
        if energy < least:
            best, least, stale = points, energy, 0
        else:
            stale += 1
        if stale > PATIENCE:
            points, stale, rate = best, 0, rate / 2
            first, second, steps = np.zeros_like(points), np.zeros_like(points), 0
            energy, slope = _energy(points, 2 * m)
        slope -= slope.mean(axis=1, keepdims=True)
        slope /= max(np.linalg.norm(slope, axis=1).max(), 1e-24)
        steps += 1
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope**2
        move = first / (1 - 0.9**steps) / (np.sqrt(second / (1 - 0.999**steps)) + 1e-8)
        moved = _onto_simplex(points - rate * move)
        still = np.abs(moved - points).mean() < STILL
        points = moved
        if still:
            break
    return sorted(best.tolist())


def _energy(points: Array, power: int) -> tuple[float, Array]:
    """The logarithm of the sum of |u - v|^-power over pairs, up to a constant, and its gradient."""
    difference = points[:, None] - points[None]
    squares = (difference**2).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    scale = max(squares.min(), 1e-30)  # the nearest pair counts 1, so that no power overflows
    terms = (np.maximum(squares, 1e-30) / scale) ** (-power / 2)
    total = terms.sum()
    slope = -power * (difference * (terms / np.maximum(squares, 1e-30))[..., None]).sum(axis=1) / total
    return float(np.log(total) - power / 2 * np.log(scale)), slope


def _onto_simplex(points: Array) -> Array:
    """`project_simplex` of each row."""
    lowered = points - points.max(axis=1, keepdims=True)
    ordered = -np.sort(-lowered, axis=1)
    thresholds = (ordered.cumsum(axis=1) - 1) / np.arange(1, points.shape[1] + 1)
    support = (ordered > thresholds).sum(axis=1)
    return np.maximum(lowered - thresholds[np.arange(len(points)), support - 1][:, None], 0.0)
