"""Analytic: m functions of one vector in a box, in closed form."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from itertools import count
from math import comb

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from equipoise.core.directions import das_dennis, far_apart
from equipoise.core.indicators import nondominated
from equipoise.pareto.landscape import Landscape

DENSE = 4001
"""Points of a curve, at least, from which evenly spread ones are taken."""
CHORD = 1e-6


class Point(nn.Module):
    """A model that is nothing but its place `x`, float64 (d,)."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(x)


class Analytic(Landscape):
    """m functions of a vector x in a box [lower, upper], float64; `project` brings x back into it.

    A subclass sets the box, the number of functions and defines `values`; where the optima are known it
    defines `optima` or `curve`, from which comes the front.

    names: "f1", "f2", ... `model` draws x evenly from the box. The optimizer is Adam, which the bad scaling
    of these functions asks for, unless a subclass says otherwise.
    """

    lower: Tensor
    upper: Tensor

    def __init__(self, lower: Tensor, upper: Tensor, m: int) -> None:
        self.lower = lower.to(torch.float64)
        self.upper = upper.to(torch.float64)
        self.names = tuple(f"f{i + 1}" for i in range(m))

    @abstractmethod
    def values(self, x: Tensor) -> Tensor:  # (..., d) -> (..., m)
        """The m functions at one place or many."""

    def optima(self, n: int) -> Tensor:  # -> (n, d)
        """n places of the Pareto set whose values spread evenly over the front.

        Raises ValueError where the Pareto set has no known closed form.
        """
        places = self.curve(max(DENSE, 20 * n))
        points = self.values(places).numpy()
        kept = nondominated(points).nonzero()[0]
        return places[kept[_evenly(points[kept], kept, n)]]

    def curve(self, n: int) -> Tensor:  # -> (n, d)
        """n places along a line that holds the Pareto set, in order; for a front that is a curve."""
        del n
        raise ValueError(f"the Pareto set of {type(self).__name__} has no known closed form")

    def front(self, n: int) -> Tensor:  # -> (n, m)
        """n points of the front, evenly spread. Raises ValueError where it has no known closed form."""
        return self.values(self.optima(n))

    def model(self, seed: int) -> Point:
        generator = torch.Generator().manual_seed(seed)
        share = torch.rand(len(self.lower), generator=generator, dtype=torch.float64)
        return Point(self.lower + share * (self.upper - self.lower))

    def losses(self, model: nn.Module) -> Mapping[str, Tensor]:
        return dict(zip(self.names, self.values(_place(model)).unbind(), strict=True))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> Tensor:  # -> (m,)
        return self.values(_place(model)).clone()

    @torch.no_grad()
    def project(self, model: nn.Module) -> None:
        place = _place(model)
        place.copy_(torch.minimum(torch.maximum(place, self.lower), self.upper))

    def gap(self, model: nn.Module) -> float:
        """As elsewhere, but what the sides of the box hold back does not count: at an optimum of a bounded
        problem the gradients need not cancel, only point out of the box."""
        rows = self.bundle(model).blocks["x"].numpy()  # (m, d)
        place, sides = _place(model).detach(), np.eye(rows.shape[1])
        held = [-sides[(place <= self.lower).numpy()], sides[(place >= self.upper).numpy()]]
        walls = np.concatenate(held)
        mean = _least(rows.mean(0, keepdims=True), walls)
        rounding = 1e-12 * np.linalg.norm(rows, axis=1).max()
        return min(1.0, _least(rows, walls) / mean) if mean > rounding else 0.0

    def optimizer(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=learning_rate)


def power(base: Tensor, exponent: float) -> Tensor:
    """base ** exponent for an exponent below 1; its chord from 0 to 1e-6, so that no slope is infinite.

    Exact at 0 and from 1e-6 on.
    """
    chord = base * CHORD ** (exponent - 1)
    return torch.where(base < CHORD, chord, base.clamp(min=CHORD) ** exponent)


def whole(size: int, low: float = 0.0, high: float = 1.0) -> tuple[Tensor, Tensor]:
    """The lower and upper ends of a box with equal sides."""
    return torch.full((size,), low, dtype=torch.float64), torch.full((size,), high, dtype=torch.float64)


def padded(head: Tensor, tail: Tensor | float, size: int) -> Tensor:  # (n, k) -> (n, size)
    """Places whose first entries are given and whose others are all one value."""
    rest = torch.full((len(head), size - head.shape[1]), 0.0, dtype=torch.float64) + tail
    return torch.cat([head, rest], 1)


def simplex(m: int, n: int) -> Tensor:  # -> (n, m)
    """n points spread evenly over the simplex, also for a large n: a lattice, or far apart in a fine one."""
    partitions = next(h for h in count(1) if comb(h + m - 1, m - 1) >= n)
    if comb(partitions + m - 1, m - 1) == n:
        return das_dennis(m, partitions)
    partitions = next(h for h in count(partitions) if comb(h + m - 1, m - 1) >= 10 * n)
    pool = das_dennis(m, partitions)
    return pool[torch.from_numpy(far_apart_in_ranges(pool.numpy(), n))]


def far_apart_in_ranges(points: np.ndarray, n: int) -> np.ndarray:  # (k, m) -> (n,)
    """The places of n points far apart, each coordinate in units of its range; the least in the first comes
    first."""
    scaled = (points - points.min(0)) / np.maximum(points.max(0) - points.min(0), 1e-300)
    return far_apart(scaled, n, [int(scaled[:, 0].argmin())])


def _place(model: nn.Module) -> Tensor:
    place = model.x
    if not isinstance(place, Tensor):
        raise TypeError(f"{type(model).__name__} has no place x; take the landscape's own model")
    return place


def _least(rows: np.ndarray, walls: np.ndarray) -> float:  # (m, d), (k, d)
    """The least length of a convex combination of rows plus a non-negative one of walls.

    Least squares without negative numbers: the weights of the rows are pulled to a sum of one and then scaled
    to it, which leaves the minimiser as it is.
    """
    size = float(np.linalg.norm(rows, axis=1).max())
    if not size:
        return 0.0
    pull = np.concatenate([np.ones(len(rows)), np.zeros(len(walls))])
    system = np.vstack([np.concatenate([rows / size, walls]).T, pull])
    found, _ = nnls(system, np.concatenate([np.zeros(rows.shape[1]), [1.0]]))
    return size * float(np.linalg.norm(system[:-1] @ found) / found[: len(rows)].sum())


def _evenly(points: np.ndarray, order: np.ndarray, n: int) -> np.ndarray:  # (k, m), (k,) -> (n,)
    """The places of n points at equal steps of length along a curve, where points stand at `order`; a gap
    between two pieces has no length."""
    steps = np.where(np.diff(order) == 1, np.linalg.norm(np.diff(points, axis=0), axis=1), 0.0)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.linspace(0.0, length[-1], n) if n > 1 else np.array([length[-1] / 2])
    return np.abs(length[None] - wanted[:, None]).argmin(1)
