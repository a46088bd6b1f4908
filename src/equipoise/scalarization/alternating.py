"""Alternating descent: one objective trains at a time, in turns."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import Keyed, by_name, numbered
from equipoise.core.rule import Draws, LossesAfter, Scalarizer
from equipoise.core.step import Step

CARD = Card(
    name="Alternating",
    shape="scalarizer",
    summary="Trains one objective at a time, whose turn is drawn or comes round in order.",
    formula="f_i, with i drawn anew for every turn, in proportion to its weight",
    title="Alternating Gradient Descent and Mixture-of-Experts for Integrated Multimodal Perception",
    authors=(
        "Hassan Akbari",
        "Dan Kondratyuk",
        "Yin Cui",
        "Rachel Hornung",
        "Huisheng Wang",
        "Hartwig Adam",
    ),
    venue="NeurIPS",
    year=2023,
    arxiv="2305.06324",
    guarantees=(
        "PERMUTATION",
        "HOMOGENEOUS(1)",
        "SIMPLEX",
        "NON_NEGATIVE",
        "CONVEX",
        "STATEFUL",
        "RANDOM",
    ),
    single="the direction itself",
    cost="one backward pass; with `turn`, the forward pass of one objective too",
    use="where objectives come from data sets of their own, of other shapes and sizes",
    avoid="where all losses come from one forward pass: the others are thrown away, and steps are noisier",
    status="experimental",
    evidence="sampling",
)


class Alternating(Keyed, Draws, Scalarizer):
    """Gives each step to one objective: weight 1 for the one whose turn it is, 0 for the others.

    The value is f_i with f `losses`. A turn lasts `steps` steps. `order` "drawn" (the default, as in the
    paper) draws the next objective in proportion to `weights`, one number for all or one for each by name;
    "cyclic" goes round in the order in which the objectives were first seen. Where the one whose turn it is
    is absent from a step, another takes it: in the cycle the one after it, else one drawn from those present.

    Use it for objectives on data of their own: ask `turn` first, and compute that loss alone. Not where one
    forward pass gives all losses.

    generator: seeds the draws; by default seed 0. Draws go with the name of an objective, not its place.
    losses: (m,). Returns a scalar. Raises ValueError for steps below 1, weights that are not positive, an
    unknown order, and a name that `weights` lacks.

    Source: Akbari et al. 2023, section on alternating gradient descent: at each step a data set and objective
    are sampled, and the model is updated for it alone. Turns of several steps and the cycle are ours.

    >>> rule = Alternating(order="cyclic")
    >>> rule(torch.tensor([1.0, 5.0]))
    tensor(1.)
    """

    place: Tensor
    taken: Tensor
    trained: Tensor

    def __init__(
        self,
        *,
        order: str = "drawn",
        steps: int = 1,
        weights: float | Mapping[str, float] = 1.0,
        generator: torch.Generator | None = None,
        objectives: Iterable[str] | None = None,
    ) -> None:
        super().__init__(generator=generator, objectives=objectives)
        if order not in ("drawn", "cyclic"):
            raise ValueError(f"order is {order!r}; it is 'drawn' or 'cyclic'")
        if steps < 1:
            raise ValueError(f"steps is {steps}; a turn lasts at least one step")
        given = weights if isinstance(weights, Mapping) else {"weights": weights}
        for name, weight in given.items():
            if not (isfinite(weight) and weight > 0):
                raise ValueError(f"the weight of {name!r} is {weight}; it must be positive")
        self.order, self.steps, self.weights = order, steps, weights
        self.keep("trained", 0.0)
        self.register_buffer("place", torch.zeros((), dtype=torch.long))
        self.register_buffer("taken", torch.zeros((), dtype=torch.long))

    def extra_repr(self) -> str:
        return f"order={self.order!r}, steps={self.steps}"

    def turn(self, names: Sequence[str]) -> str:
        """The objective among `names` that trains next, for a loop that computes its loss alone."""
        if not names:
            raise ValueError("no objective is present; give the names of those that could train")
        if self.order == "cyclic":
            line = self.union(names)
            start = int(self.place) % len(line)
            return next(name for name in (*line[start:], *line[:start]) if name in names)
        uniform = [float(torch.rand((), generator=self.draws(name), dtype=torch.float64)) for name in names]
        waits = -(-torch.tensor(uniform, dtype=torch.float64)).log1p() / by_name(self.weights, names)
        return names[int(waits.argmin())]

    def forward(self, losses: Tensor, *, names: Sequence[str] | None = None) -> Tensor:  # (m,) -> ()
        names = numbered(names, losses.numel())
        return losses[names.index(self.turn(names))]

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        names, _ = self.observed(step)
        if not names:
            return
        active = self.turn(names)
        trained = self.read("trained", names)
        self.write("trained", names, trained + trained.new_tensor([n == active for n in names]))
        self.taken.add_(1)
        if self.order == "cyclic":
            place = self.objectives.index(active)
            if place != int(self.place) % len(self.objectives):
                self.taken.fill_(1)
            self.place.fill_(place)
        if int(self.taken) >= self.steps:
            self.taken.zero_()
            self.place.add_(1)
            Draws.update(self, step)
