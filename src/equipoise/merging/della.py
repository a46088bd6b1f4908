"""DELLA: drop changes at random, small ones more often, and scale up the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Block, Part
from equipoise.merging.mergerule import PerModel, values_of
from equipoise.merging.signs import column
from equipoise.merging.sparserule import SparseRule, check_rescale, drawn, same_l1

CARD = Card(
    name="DELLA",
    shape="merge",
    summary="Drop changes at random, small ones of a row more often, scale up the rest, then vote on signs",
    formula="theta_0 + lambda mean_i (b_i * delta_i / p_i), p_i from p - epsilon to p + epsilon by rank",
    title="DELLA-Merging: Reducing Interference in Model Merging through Magnitude-Based Sampling",
    authors=("Deep", "Bhardwaj", "Poria"),
    venue="arXiv",
    year=2024,
    arxiv="2406.11617",
    guarantees=("RANDOM",),
    cost="a sort of each row, twice where the L1 norm is kept; memory of a part",
    use="as DARE, where large changes matter more than small ones",
    avoid="tensors with very short rows (small convolutions): ranks mean little there",
    single="the base plus lambda times the thinned changes of the model",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class DELLA(SparseRule):
    """Drop changes at random, small ones more often, scale up the rest, and merge those of the elected sign.

    An element is kept with a probability that grows evenly with the rank of its magnitude in its row of the
    last axis, from p - epsilon for the smallest to p + epsilon for the largest. `density`: p; `epsilon`:
    half the width of the window. `rescale`: "paper" divides each element by its probability; "l1" gives each
    tensor the sum of magnitudes that it had, as mergekit does. `votes`: only changes of the elected sign
    count, else all; `normalize` divides by the weights that count. `weight`: w; `scale`: lambda; `seed` as
    in DARE. A row of one element has p, a share of 1 drops nothing. Of equal magnitudes the first ranks
    lower.

    Raises ValueError where p - epsilon is not above 0 or p + epsilon is above 1.

    Source: Deep et al., 2024; the probabilities as in the authors' code.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base, model = {"w": torch.zeros(4)}, {"w": torch.ones(4)}
    >>> float(merge([model], base, method=DELLA(density=1.0))["w"].sum())
    4.0
    """

    votes: bool = True
    normalize: bool = True
    epsilon: PerModel = 0.15
    rescale: Literal["paper", "l1"] = "paper"
    seed: int = 0

    by_row = True
    per_model = ("weight", "density", "epsilon")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rescale(self)

    def bound(self, names: Sequence[str]) -> Self:
        found = super().bound(names)
        shares, around = (values_of(option, names).tolist() for option in (found.density, found.epsilon))
        for name, p, epsilon in zip(names, shares, around, strict=True):
            if p not in (0, 1) and not (epsilon >= 0 and p - epsilon > 0 and p + epsilon <= 1):
                raise ValueError(
                    f"DELLA: model {name} has density {p} and epsilon {epsilon}, so probabilities from"
                    f" {p - epsilon:g} to {p + epsilon:g}; they must be above 0 and not above 1"
                )
        return found

    def measure(self, block: Block, survey: None) -> Tensor | None:  # -> (m,)
        """The factors of the models, where the sum of magnitudes is kept."""
        if self.rescale == "paper":
            return None
        parts = block.parts(by_row=True)
        return same_l1((part.deltas, self.mask(part, self.shares(part))) for part in parts)

    def sparse(self, part: Part, measured: Tensor | None) -> Tensor:  # -> (m, *shape)
        shares = self.shares(part)
        rows = part.deltas.mul_(self.mask(part, shares))
        if measured is not None:
            return rows.mul_(column(measured, rows))
        return rows.div_(shares.masked_fill_(shares == 0, 1))

    def mask(self, part: Part, shares: Tensor) -> Tensor:  # (m, *shape) -> (m, *shape)
        """1 for what is kept, else 0."""
        return drawn(self.seed, part, shares)

    def shares(self, part: Part) -> Tensor:  # -> (m, *shape)
        """The probability of each element to be kept."""
        width = part.block.shape[-1] if part.block.shape else 1
        places = rank(part.deltas.abs().view(-1, width)).to(part.block.dtype)
        places = places.div_(width - 1) if width > 1 else places.fill_(0.5)
        p = values_of(self.density, part.names)
        around = torch.where((p == 0) | (p == 1), 0, values_of(self.epsilon, part.names))
        found = places.view(len(part.names), *part.shape).mul_(2).sub_(1)
        return found.mul_(column(around, found)).add_(column(p, found))


def rank(rows: Tensor) -> Tensor:  # (r, k) -> (r, k) int64
    """The place of each number in its ordered row, from 0; of equal ones the first comes first.

    >>> rank(torch.tensor([[0.5, 0.1, 0.5]]))
    tensor([[1, 0, 2]])
    """
    numbers = rows.numpy()
    places = np.arange(numbers.shape[1])
    if numbers.dtype == np.float32:
        keys = numbers.view(np.int32).astype(np.int64) << 32 | places  # bits are ordered as magnitudes are
        keys.sort(axis=1)
        order = keys & 0xFFFFFFFF
    else:
        order = np.argsort(numbers, axis=1, kind="stable")
    found = np.empty_like(order)
    np.put_along_axis(found, order, np.broadcast_to(places, order.shape), axis=1)
    return torch.from_numpy(found)
