"""AgreedArithmetic: weighted task vectors of which only trimmed elements with the elected sign count."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from equipoise.merging.block import Block, Blocks, Part
from equipoise.merging.combined import Coefficients
from equipoise.merging.mergerule import MergeRule, PerModel, values_of, weighted
from equipoise.merging.signs import elected
from equipoise.merging.threshold import trim
from equipoise.merging.ties import TIES

USUAL = TIES(preset="fusion_bench")
"""A fifth of all elements is kept, signs are elected over all models."""


@dataclass(frozen=True)
class AgreedArithmetic(MergeRule):
    """theta_0 + sum_i c_i s_i, s_i what TIES leaves of the task vector of model i before it adds them up.

    `coefficients`: c, for all or for each model, or `Coefficients` with those of each group of tensors. They
    weigh what is left and have no say in trimming and election. `ties`: density, scope, count and undecided
    signs as there; its weights, scale and reduction are not used.

    Source: Yang et al., ICLR 2024, AdaMerging++, and the authors' code.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base = {"w": torch.zeros(2)}
    >>> models = [{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, -1.0])}]
    >>> merge(models, base, method=AgreedArithmetic(0.5, ties=TIES(density=1.0)))["w"]
    tensor([2., 1.])
    """

    coefficients: PerModel | Coefficients = 0.3
    ties: TIES = USUAL

    needs_base = True
    copies = 2.0
    per_model = ("coefficients",)

    def survey(self, blocks: Blocks) -> Any:
        return self._even().survey(blocks)

    def surveyed_alike(self) -> Any:
        return self._even().surveyed_alike()

    def measure(self, block: Block, survey: Any) -> Any:
        return self._even().measure(block, survey)

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        rows = trim(part, part.deltas, [measured.found[name] for name in part.names])
        signs = elected(rows, measured.undecided)
        rows.mul_(signs).clamp_min_(0).mul_(signs)
        weights = self.coefficients
        if isinstance(weights, Callable):
            weights = weights(part.block.name).weight
        return part.base.add_(weighted(values_of(weights, part.names), rows))

    def _even(self) -> TIES:
        ties = self.ties
        return TIES(density=ties.density, scope=ties.scope, count=ties.count, undecided=ties.undecided)
