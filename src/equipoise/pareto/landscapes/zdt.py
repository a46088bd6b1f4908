"""ZDT1-4 and ZDT6: two functions whose front is convex, concave, in pieces, behind many others, or uneven.

f1(x1) and f2 = g(x2 ...) h(f1, g); the Pareto set is where g is least, 1. ZDT5 has binary variables, hence no
gradients. Source: Zitzler, Deb and Thiele 2000, "Comparison of Multiobjective Evolutionary Algorithms:
Empirical Results".
"""

from math import pi

import torch
from torch import Tensor

from equipoise.pareto.landscapes.analytic import Analytic, padded, power, whole


class ZDT(Analytic):
    """f1 = x1 and f2 = g h with g = 1 + 9 mean(x2 ...), over [0, 1]^d; a subclass defines h."""

    def __init__(self, *, d: int = 30) -> None:
        if d < 2:
            raise ValueError(f"d is {d}; a ZDT problem has at least 2 variables")
        super().__init__(*whole(d), 2)

    def values(self, x: Tensor) -> Tensor:  # (..., d) -> (..., 2)
        first, beyond = self.first(x[..., 0]), self.beyond(x[..., 1:])
        return torch.stack([first, beyond * self.shape(first, beyond)], -1)

    def first(self, x: Tensor) -> Tensor:
        """f1, of the first variable."""
        return x

    def beyond(self, rest: Tensor) -> Tensor:  # (..., d - 1) -> (...)
        """g, of the other variables: 1 on the front."""
        return 1 + 9 * rest.mean(-1)

    def shape(self, first: Tensor, beyond: Tensor) -> Tensor:
        """h, of f1 and g."""
        return 1 - power(first / beyond, 0.5)

    def curve(self, n: int) -> Tensor:  # -> (n, d)
        ends = torch.linspace(0, 1, n, dtype=torch.float64)[:, None]
        return padded(ends, 0.0, len(self.lower))


class ZDT1(ZDT):
    """A convex front, f2 = 1 - sqrt(f1).

    >>> ZDT1().values(torch.zeros(30, dtype=torch.float64)).tolist()
    [0.0, 1.0]
    """


class ZDT2(ZDT):
    """A concave front, f2 = 1 - f1^2."""

    def shape(self, first: Tensor, beyond: Tensor) -> Tensor:
        return 1 - (first / beyond).square()


class ZDT3(ZDT):
    """A front in five pieces, on f2 = 1 - sqrt(f1) - f1 sin(10 pi f1); f2 may be negative."""

    def shape(self, first: Tensor, beyond: Tensor) -> Tensor:
        return 1 - power(first / beyond, 0.5) - first / beyond * torch.sin(10 * pi * first)


class ZDT4(ZDT):
    """The front of ZDT1 behind 21^9 local ones: x2 ... lie in [-5, 5] and g is that of Rastrigin."""

    def __init__(self, *, d: int = 10) -> None:
        super().__init__(d=d)
        self.lower[1:], self.upper[1:] = -5.0, 5.0

    def beyond(self, rest: Tensor) -> Tensor:
        return 1 + 10 * rest.shape[-1] + (rest.square() - 10 * torch.cos(4 * pi * rest)).sum(-1)


class ZDT6(ZDT):
    """A concave front, f2 = 1 - f1^2, of which f1 covers only [0.28, 1], and unevenly."""

    def __init__(self, *, d: int = 10) -> None:
        super().__init__(d=d)

    def first(self, x: Tensor) -> Tensor:
        return 1 - torch.exp(-4 * x) * torch.sin(6 * pi * x) ** 6

    def beyond(self, rest: Tensor) -> Tensor:
        return 1 + 9 * power(rest.mean(-1), 0.25)

    def shape(self, first: Tensor, beyond: Tensor) -> Tensor:
        return 1 - (first / beyond).square()

    def curve(self, n: int) -> Tensor:
        """From the least f1, at the root of tan(6 pi x) = 9 pi, down to x1 = 0, where f1 is 1."""
        least = torch.atan(torch.tensor(9 * pi, dtype=torch.float64)) / (6 * pi)
        wanted = torch.linspace(0, 1, n, dtype=torch.float64) * (1 - self.first(least)) + self.first(least)
        low, high = torch.zeros(n, dtype=torch.float64), least.expand(n)
        for _ in range(60):  # f1 falls from 1 to its least between 0 and there
            middle = (low + high) / 2
            above = self.first(middle) > wanted
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return padded(((low + high) / 2)[:, None], 0.0, len(self.lower))
