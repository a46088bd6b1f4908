"""AGEM: learn the new task without hurting the past ones on average."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import numbered
from equipoise.core.primary import Primary
from equipoise.core.rule import GramianRule

CARD = Card(
    name="AGEM",
    shape="gramian",
    summary="The primary direction, less what points against the mean of the others.",
    formula="g - min(0, <g, r>) / |r|^2 r, r the mean of the others",
    title="Efficient Lifelong Learning with A-GEM",
    authors=("Arslan Chaudhry", "Marc'Aurelio Ranzato", "Marcus Rohrbach", "Mohamed Elhoseiny"),
    venue="ICLR",
    year=2019,
    arxiv="1812.00420",
    guarantees=("HOMOGENEOUS(1)", "NON_NEGATIVE", "STATEFUL"),
    single="the direction itself",
    cost="the Gramian and m^2 additions; with one loss over the whole memory, two backward passes",
    use="continual learning with a small memory of past tasks, where GEM's program is too dear",
    avoid="no past task may be hurt: only their mean is safe; GEM keeps each of them",
    status="main",
    evidence="orthogonal_update",
)

ROUNDING = 1e-12  # a mean whose square is below this share of the mean square is rounding


class AGEM(Primary, GramianRule):
    """Follows the primary objective, the task at hand, and does not hurt the mean of the others, the memory.

    d = g - min(0, <g, r>) / |r|^2 r, with g the direction of `primary` and r the mean of the other
    directions: the projection of g on the halfspace where r is not hurt. So w_g = 1 and every other weight
    is -min(0, <g, r>) / (|r|^2 (m - 1)). The others alone never move anything.

    When to use: continual learning. Give the loss of the new batch and one loss over the memory (then r is
    the paper's), or one for each past task.
    When not: every single task counts; GEM has a constraint for each. With two objectives AGEM is GEM
    without margin, and DualProj with all of the preference on the primary one.

    primary: the name of the task at hand; by default the first of the first step, which `update`
        remembers. Where it is absent from a batch nothing moves.
    objectives: all names, where the first batches may lack the primary one.
    gramian: (m, m). Returns (m,). Where the others cancel out, or there are none, d = g.

    Raises ValueError for a primary that no step had so far.

    Source: Chaudhry et al. 2019, equation 11.

    >>> AGEM()(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]))
    tensor([1., 1.], dtype=torch.float64)
    """

    def __init__(self, *, primary: str | None = None, objectives: Iterable[str] | None = None) -> None:
        super().__init__(primary=primary, objectives=objectives)

    def extra_repr(self) -> str:
        return f"primary={self.primary!r}"

    def forward(self, gramian: Tensor, *, names: Sequence[str] | None = None) -> Tensor:  # (m, m) -> (m,)
        inner = gramian.double()
        place = self.place(numbered(names, len(inner)))
        weights = torch.zeros_like(inner[0])
        if place is None:
            return weights
        mean = torch.full_like(inner[0], 1.0 / max(len(inner) - 1, 1))
        mean[place] = 0.0
        square, met = mean @ inner @ mean, inner[place] @ mean
        if met < 0 and square > ROUNDING * (mean @ inner.diagonal()):
            weights = -met / square * mean
        weights[place] = 1.0
        return weights
