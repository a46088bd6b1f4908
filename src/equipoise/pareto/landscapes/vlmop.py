"""VLMOP2: two bells side by side, with a concave front. Also known as the Fonseca-Fleming problem."""

from collections.abc import Iterable
from math import sqrt

import torch
from torch import Tensor, nn

from equipoise.pareto.landscapes.analytic import Analytic, Point, whole


class VLMOP2(Analytic):
    """f1, f2 = 1 - exp(-|x -+ 1 / sqrt(d)|^2) over [-2, 2]^d; the Pareto set is the line between the centres.

    Both functions are of one size and smooth: the optimizer is plain SGD, as in Lin et al. 2019. Far from
    the centres their gradients fade, so that models start within 1/2 of the origin in every variable.

    Source: Van Veldhuizen and Lamont 1999, "Multiobjective Evolutionary Algorithm Test Suites"; Fonseca and
    Fleming 1995.

    >>> VLMOP2().values(torch.zeros(10, dtype=torch.float64)).round(decimals=4).tolist()
    [0.6321, 0.6321]
    """

    def __init__(self, *, d: int = 10) -> None:
        super().__init__(*whole(d, -2.0, 2.0), 2)
        self.centre = 1 / sqrt(d)

    def values(self, x: Tensor) -> Tensor:  # (..., d) -> (..., 2)
        apart = [(x - sign * self.centre).square().sum(-1) for sign in (1, -1)]
        return 1 - torch.exp(-torch.stack(apart, -1))

    def curve(self, n: int) -> Tensor:  # -> (n, d)
        share = torch.linspace(1, -1, n, dtype=torch.float64)[:, None]
        return (share * self.centre).expand(n, len(self.lower)).clone()

    def model(self, seed: int) -> Point:
        return Point(super().model(seed).x.detach() / 4)

    def optimizer(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=learning_rate)
