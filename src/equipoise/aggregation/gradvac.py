"""GradVac: each direction is turned towards the others until it is as close to them as it used to be."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.errors import unknown
from equipoise.core.keyed import Keyed, numbered
from equipoise.core.rule import Draws, GramianRule, LossesAfter
from equipoise.core.scaled import Array, as_array
from equipoise.core.step import Step

CARD = Card(
    name="GradVac",
    shape="gramian",
    summary="Turns each direction, in turn, towards every other to which it is less close than on average.",
    formula="each i, each j != i in random order: where cos(g_i, g_j) = c < t_ij, "
    "g_i <- g_i + |g_i| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2)) g_j; sum of all",
    title="Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively Multilingual "
    "Models",
    authors=("Zirui Wang", "Yulia Tsvetkov", "Orhan Firat", "Yuan Cao"),
    venue="ICLR",
    year=2021,
    arxiv="2010.05874",
    guarantees=("HOMOGENEOUS(1)", "LINEAR_IN_ROW_SCALE", "NON_NEGATIVE", "STATEFUL", "RANDOM"),
    single="the direction itself",
    cost="O(m^3), m - 1 steps one after the other",
    use="objectives that are related, such as languages, where agreement seen before should be kept",
    avoid="no objective may be hurt: a later turn may undo an earlier one",
    status="main",
)

Order = Literal["random", "cyclic"]
LARGEST = 1 - 1e-6


class GradVac(Keyed, Draws, GramianRule):
    """Keeps each two objectives as close as they have been on average, by turning one towards the other.

    Row i of the coefficients C starts as the i-th unit vector. For every j != i in turn, let c be the
    cosine of row i, as turned so far, with direction j, and t_ij the average of such cosines over past
    steps. Where c < t_ij, C_ij grows by |g_i| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2)),
    after which their cosine is t. Then w = sum over i of C_i, and t <- (1 - beta) t + beta c. At first t is
    zero, and the answer is that of PCGrad.

    Use it for related objectives. Avoid it where none may be hurt, and where a run must not depend on
    draws (or take `order="cyclic"`: i+1, i+2, ..., which depends on the order of the objectives).

    beta: how fast the averages follow, in [0, 1]; 0.01, which a reimplementation gives as the paper's, where
        TorchJD and LibMTL take 0.5.
    order: "random" draws an order for each i from the rule's own generator.
    generator: seeds the draws; by default seed 0.
    gramian: (m, m). Returns (m,). A zero direction neither turns nor is turned to. Averages are cut to
        1 - 1e-6, beyond which the equation has no finite solution.

    Averages are kept for each pair of names and advance, with the draw, in `update`. Raises ValueError for
    another order and for a beta outside [0, 1].

    Source: Wang et al. 2021, algorithm 1 and equation 2.

    >>> GradVac()(torch.tensor([[4.0, -2.0], [-2.0, 2.0]], dtype=torch.float64)).tolist()
    [1.5, 2.0]
    """

    def __init__(
        self, *, beta: float = 0.01, order: Order = "random", generator: torch.Generator | None = None
    ) -> None:
        super().__init__(generator=generator)
        if order not in get_args(Order):
            raise ValueError(unknown("order", order, get_args(Order)))
        if not 0 <= beta <= 1:
            raise ValueError(f"beta is {beta}; it lies between 0 and 1")
        self.beta = beta
        self.order: Order = order
        self.keep("targets", 0.0)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, order={self.order!r}"

    def forward(self, gramian: Tensor, *, names: Sequence[str] | None = None) -> Tensor:  # (m, m) -> (m,)
        coefficients, _ = self._turned(gramian, numbered(names, len(gramian)))
        return torch.from_numpy(coefficients.sum(0))

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        names, _ = self.observed(step)
        if step.gramian is not None and len(names) > 1:
            places = [step.names.index(name) for name in names]
            _, cosines = self._turned(step.gramian[places][:, places], names)
            targets, met = self.read("targets", pairs(names)), torch.from_numpy(cosines).view(-1)
            self.write("targets", pairs(names), targets.lerp(met.to(targets), self.beta))
        Draws.update(self, step)

    def _turned(self, gramian: Tensor, names: Sequence[str]) -> tuple[Array, Array]:  # -> (m, m), (m, m)
        """The coefficients, and the cosine that each two directions had when they met (one with itself)."""
        inner = as_array(gramian)
        m = len(inner)
        targets = as_array(self.read("targets", pairs(names))).reshape(m, m).clip(-LARGEST, LARGEST)
        rows, squares = np.arange(m), inner.diagonal().clip(0.0).copy()
        lengths = np.sqrt(squares)
        coefficients, products, cosines = np.eye(m), inner.copy(), np.eye(m)
        for others in self._others(m):  # row i meets direction others[i]
            size = np.sqrt(squares)
            product = products[rows, others]
            both = size * lengths[others]
            met = np.divide(product, both, out=np.zeros(m), where=both > 0).clip(-1.0, 1.0)
            target = targets[rows, others]
            sine = np.sqrt(1.0 - target**2)
            turn = size * (target * np.sqrt(1.0 - met**2) - met * sine)
            added = np.divide(
                turn, lengths[others] * sine, out=np.zeros(m), where=(met < target) & (both > 0)
            )
            turned = np.flatnonzero(added)
            coefficients[turned, others[turned]] += added[turned]
            products[turned] += added[turned, None] * inner[others[turned]]
            squares = (squares + added * (2.0 * product + added * inner[others, others])).clip(0.0)
            cosines[rows, others] = met
        return coefficients, cosines

    def _others(self, m: int) -> np.ndarray:  # -> (m - 1, m), column i holds every j != i
        if self.order == "cyclic":
            return (np.arange(m) + np.arange(1, m)[:, None]) % m
        keys = torch.rand(m, m, generator=self.draws()).fill_diagonal_(2.0)
        return keys.argsort(0)[: m - 1].numpy()


def pairs(names: Sequence[str]) -> tuple[str, ...]:
    """A name for each ordered pair."""
    return tuple(f"{one} -> {other}" for one in names for other in names)
