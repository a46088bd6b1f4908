"""DTLZ1-7: any number of functions, whose front is a plane, a sphere, a curve, or in pieces.

The first m - 1 variables place a point on the front, the last k say how far it lies from it: g = 0 there.
Source: Deb, Thiele, Laumanns and Zitzler 2005, "Scalable Test Problems for Evolutionary Multiobjective
Optimization", with the sizes k that it suggests.
"""

from math import pi

import numpy as np
import torch
from torch import Tensor

from equipoise.core.indicators import nondominated
from equipoise.pareto.landscapes.analytic import Analytic, far_apart_in_ranges, padded, power, simplex, whole


class DTLZ(Analytic):
    """m functions over [0, 1]^(m - 1 + k); the front lies on the unit sphere unless overridden."""

    def __init__(self, *, m: int = 3, k: int = 10) -> None:
        if m < 2 or k < 1:
            raise ValueError(f"m is {m} and k is {k}; a DTLZ problem has m >= 2 and k >= 1")
        super().__init__(*whole(m - 1 + k), m)
        self.m = m

    def values(self, x: Tensor) -> Tensor:  # (..., d) -> (..., m)
        g = self.distance(x[..., self.m - 1 :])
        return (1 + g)[..., None] * self.surface(self.angles(x[..., : self.m - 1], g))

    def distance(self, rest: Tensor) -> Tensor:  # (..., k) -> (...)
        """g, of the last k variables: 0 on the front."""
        return (rest - 0.5).square().sum(-1)

    def angles(self, place: Tensor, g: Tensor) -> Tensor:  # (..., m - 1) -> (..., m - 1)
        """Shares of a right angle, of the first m - 1 variables."""
        del g
        return place

    def surface(self, angles: Tensor) -> Tensor:  # (..., m - 1) -> (..., m)
        """The point of the sphere at some angles."""
        angles = angles * (pi / 2)
        return products(torch.cos(angles), torch.sin(angles))

    def optima(self, n: int) -> Tensor:  # -> (n, d)
        points = simplex(self.m, n)
        return padded(self.placed(points / points.norm(dim=1, keepdim=True)), 0.5, len(self.lower))

    def placed(self, points: Tensor) -> Tensor:  # (n, m) -> (n, m - 1)
        """The first m - 1 variables of points on the sphere."""
        found = []
        for i in range(self.m - 1):  # f_m = sin x1, f_(m-1) = cos x1 sin x2, ...
            below = points[:, : self.m - 1 - i].norm(dim=1)
            found.append(torch.atan2(points[:, self.m - 1 - i], below) / (pi / 2))
        return torch.stack(found, 1)


class DTLZ1(DTLZ):
    """A plane, sum f = 1/2, behind 11^k - 1 local fronts.

    >>> DTLZ1().values(torch.full((7,), 0.5, dtype=torch.float64)).tolist()
    [0.125, 0.125, 0.25]
    """

    def __init__(self, *, m: int = 3, k: int = 5) -> None:
        super().__init__(m=m, k=k)

    def distance(self, rest: Tensor) -> Tensor:
        return _rastrigin(rest)

    def surface(self, angles: Tensor) -> Tensor:
        return products(angles, 1 - angles) / 2

    def placed(self, points: Tensor) -> Tensor:
        found, left = [], torch.ones(len(points), dtype=torch.float64)
        points = points / points.sum(1, keepdim=True)
        for i in range(self.m - 1):
            share = points[:, self.m - 1 - i] / left.clamp(min=1e-300)
            found.append((1 - share).clamp(0, 1))
            left = left - points[:, self.m - 1 - i]
        return torch.stack(found, 1)


class DTLZ2(DTLZ):
    """A sphere, sum f^2 = 1: concave.

    >>> DTLZ2().values(torch.full((12,), 0.5, dtype=torch.float64)).round(decimals=4).tolist()
    [0.5, 0.5, 0.7071]
    """


class DTLZ3(DTLZ):
    """The sphere of DTLZ2 behind 3^k - 1 local fronts."""

    def distance(self, rest: Tensor) -> Tensor:
        return _rastrigin(rest)


class DTLZ4(DTLZ):
    """The sphere of DTLZ2, where most places lead to its border: the first variables enter as x^100."""

    def __init__(self, *, m: int = 3, k: int = 10, exponent: float = 100.0) -> None:
        super().__init__(m=m, k=k)
        self.exponent = exponent

    def angles(self, place: Tensor, g: Tensor) -> Tensor:
        del g
        return place**self.exponent

    def placed(self, points: Tensor) -> Tensor:
        return super().placed(points) ** (1 / self.exponent)


class DTLZ5(DTLZ):
    """A curve on the sphere, for m = 3; with more functions the front is larger than a curve and unknown."""

    def angles(self, place: Tensor, g: Tensor) -> Tensor:
        g = g[..., None]
        return torch.cat([place[..., :1], (1 + 2 * g * place[..., 1:]) / (2 * (1 + g))], -1)

    def optima(self, n: int) -> Tensor:
        if self.m > 3:
            raise ValueError(f"the front of {type(self).__name__} is known for m <= 3, not for m = {self.m}")
        head = torch.linspace(0, 1, n, dtype=torch.float64)[:, None]
        head = padded(head, 0.5, self.m - 1)
        return padded(head, self.nearest, len(self.lower))

    nearest = 0.5


class DTLZ6(DTLZ5):
    """The curve of DTLZ5 with g = sum x^0.1, steepest where it is least."""

    nearest = 0.0

    def distance(self, rest: Tensor) -> Tensor:
        return power(rest, 0.1).sum(-1)


class DTLZ7(DTLZ):
    """2^(m - 1) separate pieces: f_i = x_i, and f_m falls in waves as they rise."""

    def __init__(self, *, m: int = 3, k: int = 20) -> None:
        super().__init__(m=m, k=k)

    def values(self, x: Tensor) -> Tensor:
        first, beyond = x[..., : self.m - 1], 2 + 9 * x[..., self.m - 1 :].mean(-1)
        waves = first * (1 + torch.sin(3 * pi * first))
        last = self.m * beyond - waves.sum(-1)
        return torch.cat([first, last[..., None]], -1)

    def optima(self, n: int) -> Tensor:
        side = int(np.ceil(max(20 * n, 2000) ** (1 / (self.m - 1))))
        axes = [torch.linspace(0, 1, side, dtype=torch.float64)] * (self.m - 1)
        places = padded(torch.cartesian_prod(*axes).reshape(-1, self.m - 1), 0.0, len(self.lower))
        points = self.values(places).numpy()
        kept = nondominated(points).nonzero()[0]
        return places[kept[far_apart_in_ranges(points[kept], n)]]


def products(inner: Tensor, outer: Tensor) -> Tensor:  # (..., m - 1), (..., m - 1) -> (..., m)
    """a1 ... a(m-1), a1 ... a(m-2) b(m-1), ..., a1 b2, b1."""
    m = inner.shape[-1] + 1
    parts = []
    for i in range(m):
        part = inner[..., : m - 1 - i].prod(-1)
        parts.append(part if i == 0 else part * outer[..., m - 1 - i])
    return torch.stack(parts, -1)


def _rastrigin(rest: Tensor) -> Tensor:  # (..., k) -> (...)
    waves = (rest - 0.5).square() - torch.cos(20 * pi * (rest - 0.5))
    return 100 * (rest.shape[-1] + waves.sum(-1))
