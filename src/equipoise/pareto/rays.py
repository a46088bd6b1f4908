"""RaySolver: what solvers share that seek one solution for each ray of losses."""

from abc import abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from equipoise.core.directions import inverted, inwards, spread
from equipoise.core.keyed import by_name
from equipoise.pareto.landscape import Landscape
from equipoise.pareto.solver import Heard, Solver, Traced, rounds_of, starts
from equipoise.pareto.walker import Walker

Guide = Callable[[Tensor, Tensor, float], Tensor]
"""Gramian (m, m), losses above the reference (m,), share of the rounds done -> weights (m,)."""


class RaySolver(Solver):
    """n walkers, one after the other, each with a ray of losses of its own, spread over all directions.

    A subclass defines `guide`: how a walker on a ray weighs its directions. A round of a walker costs m
    gradients. `Front.weights` are the reciprocals of the rays, so that what weighs more is lower; of the rays
    drawn a thousandth inwards, so that no two are the same.

    points: the number of rays. reference: what is subtracted from the losses before they are set against a
    ray, one number or one for each objective by name; the losses' lower bound or a little less.
    """

    def __init__(self, *, points: int = 11, reference: float | Mapping[str, float] = 0.0) -> None:
        if points < 1:
            raise ValueError(f"points is {points}; seek at least one")
        self.points = points
        self.reference = reference

    @abstractmethod
    def guide(self, rays: Tensor, place: int) -> Guide:  # (n, m)
        """How the walker on the ray at a place weighs its directions; called once for each walker."""

    def solve(
        self, landscape: Landscape, *, budget: int, learning_rate: float, seed: int, heard: Heard
    ) -> Traced:
        names = landscape.names
        m = len(names)
        rays = spread(m, self.points if m > 1 else 1)
        what = f"{type(self).__name__} at {len(rays)} points"
        rounds = rounds_of(budget, m * len(rays), what)
        reference = by_name(self.reference, names)
        solutions, gradients = [], 0
        for place, start in enumerate(starts(seed, len(rays))):
            walker = Walker(landscape, landscape.model(start), learning_rate)
            weigh = self.guide(rays, place)
            for step in range(rounds):
                losses, bundle = walker.directions()
                weights = weigh(bundle.gramian(), self.checked(losses - reference, names), step / rounds)
                walker.move(bundle.combine(weights))
                heard((place + (step + 1) / rounds) / len(rays))
            solutions.append(walker.tensors())
            gradients += walker.count
        return Traced(solutions, inverted(inwards(rays)), gradients)

    def checked(self, losses: Tensor, names: tuple[str, ...]) -> Tensor:  # (m,) -> (m,)
        """The losses above the reference; refuses what is not finite. A subclass may refuse more."""
        if not bool(losses.isfinite().all()):
            bad = [name for name, loss in zip(names, losses.tolist(), strict=True) if loss - loss != 0]
            raise ValueError(f"the losses of {', '.join(bad)} are not finite; take a lower learning rate")
        return losses


def scaled_gramian(gramian: Tensor) -> Tensor:  # (m, m) -> (m, m)
    """The Gramian over its trace, so that no number below depends on the size of the directions."""
    trace = gramian.diagonal().sum()
    return gramian / trace if trace > 0 else torch.zeros_like(gramian)
