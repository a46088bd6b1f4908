"""RegMean: the linear layers whose outputs are nearest to those of all models on their own inputs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Block, Part, finite
from equipoise.merging.mergerule import MergeRule, PerModel, check_least
from equipoise.merging.preconditioned import positive_weights, preconditioned

CARD = Card(
    name="RegMean",
    shape="merge",
    summary="Linear layers whose outputs are nearest to every model's on the inputs that it sees",
    formula="(sum_i w_i W_i G_i) (sum_i w_i G_i)^-1, G_i = X_i^T X_i",
    title="Dataless Knowledge Fusion by Merging Weights of Language Models",
    authors=("Jin", "Ren", "Preotiuc-Pietro", "Cheng"),
    venue="ICLR",
    year=2023,
    arxiv="2212.09849",
    cost="a solve of (in, in) in float64 for each layer; memory of the Gram matrices",
    use="models of unlike tasks, with some hundred unlabelled inputs of each",
    avoid="models without inputs (WUDI); layers that are not linear are only averaged",
    single="the model itself",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class RegMean(MergeRule):
    """Layers nearest to all models on their inputs: W = (sum_i w_i W_i G_i) (sum_i w_i G_i)^-1.

    G_i = X_i^T X_i, the statistics "gram", (in, in) for a weight (out, in); a convolution's weight
    (out, in, *kernel) counts as (out, in * kernel), with windows of the input as rows of X. W minimises
    sum_i w_i |X_i W^T - X_i W_i^T|^2.

    `weight`: w, for all or for each model. `off_diagonal`: the factor of the elements of G off its diagonal
    (the paper's alpha); 1 is the formula, and the authors' code takes 0.1 for some models. `ridge`: added to
    the diagonal of sum G, as a share of its mean, drawing W to the average where inputs say little; 0 is the
    formula. Tensors without statistics are averaged with the weights.

    Raises ValueError for statistics of another shape or not finite, and for weights negative or all 0.

    Source: Jin et al., ICLR 2023; `regmean_mean_params` of bloomberg/dataless-model-merging.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> models = {"a": {"w": torch.zeros(1, 2)}, "b": {"w": torch.ones(1, 2)}}
    >>> gram = {"a": {"w": torch.diag(torch.tensor([3.0, 1.0]))}, "b": {"w": torch.eye(2)}}
    >>> merge(models, method=RegMean(ridge=0), statistics=gram)["w"]
    tensor([[0.2500, 0.5000]])
    """

    weight: PerModel = 1.0
    off_diagonal: float = 1.0
    ridge: float = 1e-4

    whole = True
    statistic = "gram"
    copies = 3.0

    def __post_init__(self) -> None:
        if not 0 <= self.off_diagonal <= 1:
            raise ValueError(f"RegMean: off_diagonal is {self.off_diagonal}; it lies between 0 and 1")
        check_least("RegMean", "ridge", self.ridge, 0)

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        weights = positive_weights("RegMean", self.weight, part.names)
        average = preconditioned(part.rows, weights, "scalar")
        if not part.block.statistics:
            return average
        layers = part.rows.flatten(2)
        metrics = (
            gram if weight == 1 else weight * gram
            for weight, gram in zip(weights.tolist(), self._grams(part), strict=True)
        )
        centre = average.view(layers.shape[1:])
        return preconditioned(layers, metrics, "matrix", ridge=self.ridge, centre=centre).view(part.shape)

    def beside(self, block: Block) -> int:
        """Two Gram matrices, their sum and its factor, and the layer twice, in float64."""
        if not block.statistics:
            return 0
        side = block.shape[1:].numel()
        return 8 * side * (4 * side + 2 * block.shape[0])

    def cost(self, block: Block) -> float:
        """Products with m Gram matrices, and a solve."""
        if not block.statistics:
            return super().cost(block)
        side = block.shape[1:].numel()
        return len(block) * block.numel * side + side**3

    def _grams(self, part: Part) -> Iterator[Tensor]:  # -> m times (in, in)
        for name, gram in zip(part.names, part.statistics(), strict=True):
            diagonal = gram.diagonal()
            if not finite(gram) or (len(gram) and diagonal.min() < 0):
                raise ValueError(
                    f"RegMean: the statistics of tensor {part.block.name!r} are no Gram matrix for {name} "
                    "(NaN, infinity or negative)"
                )
            if self.off_diagonal != 1:
                kept = diagonal.clone()
                gram = gram * self.off_diagonal
                gram.diagonal().copy_(kept)
            yield gram
