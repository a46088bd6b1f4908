"""DARE: drop changes at random and scale up the rest."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Block, Part
from equipoise.merging.mergerule import values_of
from equipoise.merging.signs import column
from equipoise.merging.sparserule import SparseRule, check_rescale, drawn, same_l1

CARD = Card(
    name="DARE",
    shape="merge",
    summary="Drop changes of each model at random, scale up the rest, then add up or vote on signs",
    formula="theta_0 + lambda sum_i w_i (b_i * delta_i) / p_i, b_i drawn from Bernoulli(p_i)",
    title="Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch",
    authors=("Yu", "Yu", "Yu", "Huang", "Li"),
    venue="ICML",
    year=2024,
    arxiv="2311.03099",
    guarantees=("RANDOM",),
    cost="one pass, two where the L1 norm is kept; memory of a part",
    use="several models of a large base with small changes, so that they overlap less",
    avoid="large changes, as after long training: what is dropped was needed",
    single="the base plus lambda w times the thinned changes of the model",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class DARE(SparseRule):
    """Drop changes at random and scale up the rest: theta_0 + lambda sum_i w_i (b_i * delta_i) / p_i.

    b_i is drawn from Bernoulli(p_i) for each element. `density`: p, the share kept (the paper speaks of the
    drop rate 1 - p and goes up to 0.9 and beyond). `weight`: w; `scale`: lambda. `rescale`: "paper" divides
    by p, so that each change stays as it was on average; "l1" scales each tensor so that its sum of
    magnitudes stays as it was, as mergekit does. `votes` elects signs after that (DARE with TIES),
    `normalize` divides by the weights that count. `seed`: draws depend on it and on the names of models and
    tensors alone.

    Raises ValueError for shares outside of 0 to 1.

    Source: Yu et al., ICML 2024; the L1 norm and the votes as in mergekit 0.1.5.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base, model = {"w": torch.zeros(4)}, {"w": torch.ones(4)}
    >>> sorted(set(merge([model], base, method=DARE(density=0.25))["w"].tolist()))
    [0.0, 4.0]
    """

    rescale: Literal["paper", "l1"] = "paper"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rescale(self)

    def measure(self, block: Block, survey: None) -> Tensor:  # -> (m,)
        """The factors of the models."""
        shares = values_of(self.density, block.names)
        if self.rescale == "paper":
            return torch.where(shares > 0, 1 / shares, 0)
        return same_l1((part.deltas, self.mask(part)) for part in block.parts())

    def sparse(self, part: Part, measured: Tensor) -> Tensor:  # -> (m, *shape)
        return part.deltas.mul_(self.mask(part)).mul_(column(measured, part.deltas))

    def mask(self, part: Part) -> Tensor:  # -> (m, *shape)
        """1 for what is kept, else 0."""
        return drawn(self.seed, part, values_of(self.density, part.names).view(-1, *[1] * len(part.shape)))
