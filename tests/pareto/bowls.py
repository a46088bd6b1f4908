"""Bowls: squared distances from m corners, whose Pareto set is the simplex between them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from equipoise.pareto.landscape import Landscape


class Place(nn.Module):
    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(x)


class Bowls(Landscape):
    """f_i = |x - e_i|^2; argmin sum_i p_i f_i is p itself."""

    def __init__(self, m: int = 2) -> None:
        self.names = tuple("abcdef"[:m])

    def model(self, seed: int) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        return Place(torch.randn(len(self.names), generator=generator, dtype=torch.float64))

    def losses(self, model: nn.Module) -> Mapping[str, Tensor]:
        corners = torch.eye(len(self.names), dtype=torch.float64)
        return dict(zip(self.names, ((model.x - corners) ** 2).sum(1), strict=True))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> Tensor:
        return torch.stack(list(self.losses(model).values()))


class BoxedBowls(Bowls):
    """Bowls whose place must stay at or below a bound in each coordinate."""

    bound = 0.7

    @torch.no_grad()
    def project(self, model: nn.Module) -> None:
        model.x.clamp_(max=self.bound)
