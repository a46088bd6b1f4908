"""Average: the weighted average of the models."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Part
from equipoise.merging.mergerule import MergeRule, PerModel, normalized, values_of, weighted

CARD = Card(
    name="Average",
    shape="merge",
    summary="The weighted average of the models",
    formula="sum_i w_i theta_i / sum_i w_i",
    title="Model soups: averaging weights of multiple fine-tuned models improves accuracy"
    " without increasing inference time",
    authors=(
        "Wortsman",
        "Ilharco",
        "Gadre",
        "Roelofs",
        "Gontijo-Lopes",
        "Morcos",
        "Namkoong",
        "Farhadi",
        "Carmon",
        "Kornblith",
        "Schmidt",
    ),
    venue="ICML",
    year=2022,
    arxiv="2203.05482",
    cost="one pass; memory of a part",
    use="models of one task, fine-tuned from one base",
    avoid="models of unlike tasks: the average may serve none of them",
    single="the model itself",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class Average(MergeRule):
    """The weighted average of the models: theta = sum_i w_i theta_i / sum_i w_i.

    `weight`: w, for all or for each model. `normalize=False` leaves out the division. A model that lacks a
    tensor does not count there.

    Raises ValueError where weights sum to zero and are to be normalised.

    Source: Wortsman et al., ICML 2022 (the uniform soup).

    >>> import torch
    >>> from equipoise.merging import merge
    >>> models = {"a": {"w": torch.zeros(2)}, "b": {"w": torch.ones(2)}}
    >>> merge(models, method=Average(weight=[1, 3]))["w"]
    tensor([0.7500, 0.7500])
    """

    weight: PerModel = 1.0
    normalize: bool = True

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        weights = values_of(self.weight, part.names)
        if self.normalize:
            weights = normalized(weights, part.names)
        return weighted(weights, part.rows)
