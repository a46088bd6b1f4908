"""PCGrad: each direction gives up what points against another."""

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.errors import unknown
from equipoise.core.rule import Draws, GramianRule
from equipoise.core.scaled import as_array

CARD = Card(
    name="PCGrad",
    shape="gramian",
    summary="Projects each direction, in turn, off every other that it conflicts with, and adds them up.",
    formula="each i, each j != i in random order: g_i <- g_i - min(0, <g_i, g_j>) / |g_j|^2 g_j; sum of all",
    title="Gradient Surgery for Multi-Task Learning",
    authors=(
        "Tianhe Yu",
        "Saurabh Kumar",
        "Abhishek Gupta",
        "Sergey Levine",
        "Karol Hausman",
        "Chelsea Finn",
    ),
    venue="NeurIPS",
    year=2020,
    arxiv="2001.06782",
    guarantees=(
        "HOMOGENEOUS(1)",
        "LINEAR_IN_ROW_SCALE",
        "STRONGLY_STATIONARY",
        "NON_NEGATIVE",
        "RANDOM",
    ),
    single="the direction itself",
    cost="O(m^3), m - 1 steps one after the other",
    use="for two objectives, where no update hurts either; cheap and without a solver",
    avoid="for three or more where no objective may be hurt: UPGrad promises that, this does not",
    status="main",
)

Order = Literal["random", "cyclic"]


class PCGrad(Draws, GramianRule):
    """Lets each objective give up the part of its direction that points against another objective.

    Row i of the coefficients C starts as the i-th unit vector. For every j != i in turn,
    C_ij <- C_ij - min(0, (C G)_ij) / G_jj, with G the Gramian; w = sum over i of C_i. With two objectives
    the update conflicts with neither, and is UPGrad's times two; with more, a later projection may undo
    an earlier one, so the order matters and an objective may be hurt.

    Use it for two objectives. Avoid it for more where none may be hurt, and where a run must not
    depend on draws (or take `order="cyclic"`: i+1, i+2, ..., which depends on the order of the objectives).

    order: "random" draws an order for each i, as the paper does, from the rule's own generator.
    generator: seeds the draws; by default seed 0.
    gramian: (m, m). Returns (m,). A zero direction is never projected on. The new draw comes with `update`.

    Raises ValueError for another order.

    Source: Yu et al. 2020, algorithm 1.

    >>> PCGrad()(torch.tensor([[4.0, -2.0], [-2.0, 2.0]], dtype=torch.float64)).tolist()
    [1.5, 2.0]
    """

    def __init__(self, *, order: Order = "random", generator: torch.Generator | None = None) -> None:
        super().__init__(generator)
        if order not in get_args(Order):
            raise ValueError(unknown("order", order, get_args(Order)))
        self.order: Order = order

    def extra_repr(self) -> str:
        return f"order={self.order!r}"

    def forward(self, gramian: Tensor) -> Tensor:  # (m, m) -> (m,)
        inner = as_array(gramian)
        m = len(inner)
        lengths = inner.diagonal()
        inverses = np.divide(1.0, lengths, out=np.zeros(m), where=lengths > 0)
        rows, coefficients, products = np.arange(m), np.eye(m), inner.copy()
        # every projection i advances by one step at a time: at each, row i meets direction others[i]
        for others in self._others(m):
            met = products[rows, others]
            moved = np.flatnonzero(met < 0)
            onto = others[moved]
            share = met[moved] * inverses[onto]
            coefficients[moved, onto] -= share
            products[moved] -= share[:, None] * inner[onto]
        return torch.from_numpy(coefficients.sum(0))

    def _others(self, m: int) -> np.ndarray:  # -> (m - 1, m), column i holds every j != i
        if self.order == "cyclic":
            return (np.arange(m) + np.arange(1, m)[:, None]) % m
        keys = torch.rand(m, m, generator=self.draws()).fill_diagonal_(2.0)
        return keys.argsort(0)[: m - 1].numpy()
