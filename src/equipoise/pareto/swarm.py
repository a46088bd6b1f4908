"""Swarm: what solvers share whose solutions move together, each by the losses of all."""

import torch
from torch import Tensor

from equipoise.pareto.landscape import Landscape
from equipoise.pareto.solver import Solver, starts
from equipoise.pareto.walker import Walker


class Swarm(Solver):
    """n walkers that move together, from starts of their own; in each round all see the same batch.

    points: the number of walkers, and of solutions.
    """

    def __init__(self, *, points: int = 11) -> None:
        if points < 1:
            raise ValueError(f"points is {points}; seek at least one")
        self.points = points

    def walkers(self, landscape: Landscape, learning_rate: float, seed: int) -> list[Walker]:
        """One with a model of its own for each solution."""
        models = [landscape.model(start) for start in starts(seed, self.points)]
        return [Walker(landscape, model, learning_rate) for model in models]


def refuse_infinite(losses: Tensor, names: tuple[str, ...]) -> None:  # (n, m)
    """Raise ValueError naming the objectives whose losses are not finite."""
    finite = losses.isfinite().all(0).tolist()
    if bad := [name for name, good in zip(names, finite, strict=True) if not good]:
        raise ValueError(f"the losses of {', '.join(bad)} are not finite; take a lower learning rate")


def stacked(losses: list, names: tuple[str, ...]) -> Tensor:  # n mappings -> (n, m)
    """The values of several solutions' losses, float64 on the CPU."""
    rows = [torch.stack([one[name].detach().double().cpu() for name in names]) for one in losses]
    return torch.stack(rows)
