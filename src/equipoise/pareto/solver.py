"""Solver: what every way to a front shares."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from equipoise.core.front import Front
from equipoise.pareto.landscape import Landscape

Heard = Callable[[float], None]


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """What a solver found: solutions as tensors by name, weights (n, m) or None, the gradients spent, and
    what else is for the front's record, in plain JSON values."""

    solutions: Sequence[Mapping[str, Tensor]]
    weights: Tensor | None
    gradients: int
    notes: Mapping[str, Any] = field(default_factory=dict)


class Solver(ABC):
    """A way to a front. A subclass stores its options and defines `solve`.

    The budget is a number of gradients: one is a backward pass from one loss, or from one weighted sum, to
    the parameters of one model. `solve` spends at most that many.
    """

    @abstractmethod
    def solve(
        self, landscape: Landscape, *, budget: int, learning_rate: float, seed: int, heard: Heard
    ) -> Traced:
        """Find solutions; `heard` is told the share of the work that is done, from 0 to 1."""

    def trace(
        self,
        landscape: Landscape,
        *,
        budget: int,
        learning_rate: float,
        seed: int = 0,
        gaps: bool = True,
        heard: Heard = lambda share: None,
    ) -> Front:
        """The front that the solver finds within a budget of gradients.

        gaps: also measure how far each solution is from Pareto stationarity, the length of the min-norm
            point over that of the mean gradient: 0 is stationary. Kept in `front.record["gaps"]`, but for one
            objective, where it says nothing.

        torch's own generator is seeded throughout, so that dropout too is the same for a seed, and left as it
        was.

        Raises ValueError for a rate that is not positive and a budget too small for one round.
        """
        if not learning_rate > 0:
            raise ValueError(f"learning_rate is {learning_rate}; it must be positive")
        gaps = gaps and len(landscape.names) > 1
        start = time.perf_counter()
        landscape.seed(seed)
        points, stationarity = [], []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found = self.solve(landscape, budget=budget, learning_rate=learning_rate, seed=seed, heard=heard)
            seconds = time.perf_counter() - start
            model = landscape.model(seed)
            for solution in found.solutions:
                model.load_state_dict(solution)
                points.append(landscape.evaluate(model))
                if gaps:
                    stationarity.append(landscape.gap(model))
        record: dict[str, Any] = {
            "solver": type(self).__name__,
            "seed": seed,
            "learning_rate": learning_rate,
            "budget": budget,
            "gradients": found.gradients,
            "seconds": seconds,
        }
        record |= dict(found.notes) | ({"gaps": stationarity} if gaps else {})
        return Front(landscape.names, torch.stack(points), found.weights, found.solutions, record)


def rounds_of(budget: int, cost: int, what: str) -> int:
    """How many rounds of a cost fit a budget. Raises ValueError where not one does."""
    if budget < cost:
        raise ValueError(f"a budget of {budget} gradients is too small: one round of {what} takes {cost}")
    return budget // cost


def starts(seed: int, n: int) -> list[int]:
    """n seeds for the models of n walkers, drawn from one; those of another seed are others."""
    drawn = torch.randint(2**31, (n,), generator=torch.Generator().manual_seed(seed))
    return drawn.tolist()
