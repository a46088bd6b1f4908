"""TaskArithmetic: the base plus the scaled sum of the task vectors."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Part
from equipoise.merging.mergerule import MergeRule, PerModel, normalized, values_of, weighted

CARD = Card(
    name="TaskArithmetic",
    shape="merge",
    summary="The base plus a scaled sum of what each model added to it",
    formula="theta_0 + lambda sum_i w_i (theta_i - theta_0)",
    title="Editing Models with Task Arithmetic",
    authors=("Ilharco", "Ribeiro", "Wortsman", "Gururangan", "Schmidt", "Hajishirzi", "Farhadi"),
    venue="ICLR",
    year=2023,
    arxiv="2212.04089",
    cost="one pass; memory of a part",
    use="a few tasks from one base; a negative weight takes a task away",
    avoid="many tasks that change the same weights: signs cancel (TIES) or directions overlap (TSVM)",
    single="the base moved towards the model by lambda w",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class TaskArithmetic(MergeRule):
    """The base plus a scaled sum of the task vectors: theta_0 + lambda sum_i w_i (theta_i - theta_0).

    `weight`: w, for all or for each model; negative ones take a task away. `scale`: lambda; the paper tunes
    it on held-out data and finds 0.3 to 0.4 for eight tasks. `normalize` divides the weights by their sum.

    Raises ValueError where weights sum to zero and are to be normalised.

    Source: Ilharco et al., ICLR 2023, section 2.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base, model = {"w": torch.ones(2)}, {"w": torch.tensor([1.0, 3.0])}
    >>> merge({"a": model}, base, method=TaskArithmetic(scale=0.5))["w"]
    tensor([1., 2.])
    """

    weight: PerModel = 1.0
    scale: float = 1.0
    normalize: bool = False

    needs_base = True

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        weights = values_of(self.weight, part.names)
        if self.normalize:
            weights = normalized(weights, part.names)
        return part.base + weighted(self.scale * weights, part.deltas)
