"""OMDFront: Tchebycheff by mirror descent for a grid of preferences that share their iterates."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.directions import inverted, inwards, outwards, spread
from equipoise.core.keyed import by_name
from equipoise.pareto.landscape import Landscape
from equipoise.pareto.solver import Heard, Solver, Traced, rounds_of
from equipoise.pareto.walker import Walker
from equipoise.scalarization.omdtchebycheff import OMDTchebycheff

CARD = Card(
    name="OMDFront",
    shape="front",
    summary="Runs mirror descent for each preference; every iterate of every run may serve any of them.",
    formula="theta(p) = argmin over all iterates of max_i p_i (f_i - z_i)",
    title="Adaptive Online Mirror Descent for Tchebycheff Scalarization in Multi-Objective Learning",
    authors=("Meitong Liu", "Xiaoyuan Zhang", "Chulin Xie", "Kate Donahue", "Han Zhao"),
    venue="TMLR",
    year=2026,
    arxiv="2410.21764",
    single="the best iterate of gradient descent",
    cost="one gradient and a copy of the model a step",
    use="on concave fronts and under noise, where the last iterate is seldom the best",
    avoid="with large models: `points` copies are held",
    status="experimental",
    evidence="fronts",
)
MEMORY = 0.9


class OMDFront(Solver):
    """Runs mirror descent for each preference; every iterate of every run may serve any of them.

    For each preference p, from the middle outwards and from its neighbour's solution on, OMDTchebycheff
    descends sum_i lambda_i p_i (f_i - z_i) while lambda climbs. Every iterate is judged for all preferences
    by max_i p_i (f_i - z_i), and the best for each is kept. What judges is the running mean of the losses,
    with weight `memory` on the past, so that one lucky batch does not count: by default 0.9 on a noisy
    landscape and 0, the losses themselves, on another.

    points: the number of preferences, the reciprocals of rays that spread evenly (a thousandth inwards).
    step_size, geometry: of lambda; see OMDTchebycheff. reference: z, at or below the least of each loss, one
    number or one by name.

    Use it on concave fronts and under noise. Not where copies of the model are dear.

    Source: Liu et al. 2026 for each run; that runs share iterates, start from their neighbour's, and
    keep the best in place of an average is ours.

    >>> OMDFront(points=5).step_size
    1.0
    """

    def __init__(
        self,
        *,
        points: int = 11,
        step_size: float = 1.0,
        geometry: Literal["exponentiated", "projected"] = "exponentiated",
        reference: float | Mapping[str, float] = 0.0,
        memory: float | None = None,
    ) -> None:
        if points < 1:
            raise ValueError(f"points is {points}; seek at least one")
        if memory is not None and not 0 <= memory < 1:
            raise ValueError(f"memory is {memory}; it is a weight from 0 to below 1")
        self.points = points
        self.step_size = step_size
        self.geometry: Literal["exponentiated", "projected"] = geometry
        self.reference = reference
        self.memory = memory
        self._rule()  # refuses bad options early

    def solve(
        self, landscape: Landscape, *, budget: int, learning_rate: float, seed: int, heard: Heard
    ) -> Traced:
        m = len(landscape.names)
        rays = spread(m, self.points if m > 1 else 1)
        preferences = inverted(inwards(rays))
        rounds = rounds_of(budget, len(rays), f"OMDFront at {len(rays)} preferences")
        model = landscape.model(seed)
        best = torch.full((len(rays),), torch.inf, dtype=torch.float64)
        kept: list[dict[str, Tensor]] = [{} for _ in rays]
        memory = (MEMORY if landscape.noisy else 0.0) if self.memory is None else self.memory
        reference, gradients = by_name(self.reference, landscape.names), 0
        for turn, (place, neighbour) in enumerate(outwards(rays)):
            if neighbour is not None:
                model.load_state_dict(kept[neighbour])
            walker, rule = Walker(landscape, model, learning_rate), self._rule()
            mean, weight = torch.zeros(m, dtype=torch.float64), 0.0
            for step in range(rounds):
                before = walker.tensors()
                losses = walker.step(rule, preferences[place]).losses
                mean = memory * mean + (1 - memory) * losses
                weight = memory * weight + 1 - memory
                worst = (preferences * (mean / weight - reference)).amax(1)
                for better in (worst < best).nonzero()[:, 0].tolist():
                    best[better], kept[better] = worst[better], before
                heard((turn + (step + 1) / rounds) / len(rays))
            gradients += walker.count
        return Traced(kept, preferences, gradients)

    def _rule(self) -> OMDTchebycheff:
        return OMDTchebycheff(step_size=self.step_size, geometry=self.geometry, reference=self.reference)
