"""MaF1: a plane that stands on its tip, so that directions from the corners miss most of it."""

import torch
from torch import Tensor

from equipoise.pareto.landscapes.analytic import Analytic, padded, simplex, whole
from equipoise.pareto.landscapes.dtlz import products


class MAF1(Analytic):
    """f = (1 - the shares of DTLZ1) (1 + g) with g = sum (x - 1/2)^2 over the last k variables.

    The front is the inverted plane, sum f = m - 1 with every f <= 1.
    Source: Cheng et al. 2017, "A benchmark test suite for evolutionary many-objective optimization", MaF1.
    LibMOON's MAF1 halves these values.

    >>> MAF1().values(torch.full((12,), 0.5, dtype=torch.float64)).tolist()
    [0.75, 0.75, 0.5]
    """

    def __init__(self, *, m: int = 3, k: int = 10) -> None:
        if m < 2 or k < 1:
            raise ValueError(f"m is {m} and k is {k}; MaF1 has m >= 2 and k >= 1")
        super().__init__(*whole(m - 1 + k), m)
        self.m = m

    def values(self, x: Tensor) -> Tensor:  # (..., d) -> (..., m)
        place = x[..., : self.m - 1]
        g = (x[..., self.m - 1 :] - 0.5).square().sum(-1)
        return (1 - products(place, 1 - place)) * (1 + g)[..., None]

    def optima(self, n: int) -> Tensor:  # -> (n, d)
        shares, found = simplex(self.m, n), []
        left = torch.ones(n, dtype=torch.float64)
        for i in range(self.m - 1):
            part = shares[:, self.m - 1 - i]
            found.append((1 - part / left.clamp(min=1e-300)).clamp(0, 1))
            left = left - part
        return padded(torch.stack(found, 1), 0.5, len(self.lower))
