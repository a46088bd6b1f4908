"""Fisher: the average of the models, each weight counted by how much a model's predictions depend on it."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Block, Blocks, Part, finite
from equipoise.merging.mergerule import MergeRule, PerModel, check_least, values_of
from equipoise.merging.preconditioned import positive_weights, preconditioned

CARD = Card(
    name="Fisher",
    shape="merge",
    summary="The average of the models, weight by weight in proportion to the Fisher information",
    formula="sum_i w_i F_i theta_i / sum_i w_i F_i",
    title="Merging Models with Fisher-Weighted Averaging",
    authors=("Matena", "Raffel"),
    venue="NeurIPS",
    year=2022,
    arxiv="2111.09832",
    cost="two passes over the Fisher information, one over the models; memory of a part",
    use="models of unlike tasks from one base, with a few hundred samples of each task",
    avoid="models without their data; layers whose weights act together (RegMean)",
    single="the model itself",
    status="main",
    evidence="merging",
)


class Measured(NamedTuple):
    """What one tensor's Fisher information is multiplied by, model by model, and what is added to it."""

    factors: Tensor  # (m,) float64
    added: float


@dataclass(frozen=True)
class Fisher(MergeRule):
    """The average weighted by Fisher information: theta = sum_i w_i F_i theta_i / sum_i w_i F_i.

    F_i, the statistics "fisher", holds for each weight the mean square of the gradient of model i's
    log-likelihood. Only the proportions of F between models count.

    `weight`: w, for all or for each model. `floor`: added to F, as a share of its mean over the tensor and
    the models, so that a weight that no model needs is averaged; the authors' code keeps F above 1e-6, which
    turns models that have converged into a plain average. `normalize`: F_i divided by its norm, over the
    whole "model" or over each "tensor". A tensor without statistics is averaged with the weights.

    Raises ValueError for statistics of another shape than the tensor's, negative or not finite.

    Source: Matena and Raffel, NeurIPS 2022; `merging_with_fisher_weights` of tanganke/fusion_bench.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> models = {"a": {"w": torch.zeros(2)}, "b": {"w": torch.ones(2)}}
    >>> fisher = {"a": {"w": torch.tensor([1.0, 3.0])}, "b": {"w": torch.tensor([1.0, 1.0])}}
    >>> merge(models, method=Fisher(floor=0), statistics=fisher)["w"]
    tensor([0.5000, 0.2500])
    """

    weight: PerModel = 1.0
    floor: float = 1e-6
    normalize: Literal["model", "tensor"] | None = None

    statistic = "fisher"
    copies = 6.0

    def __post_init__(self) -> None:
        check_least("Fisher", "floor", self.floor, 0)
        if self.normalize not in (None, "model", "tensor"):
            raise ValueError(f"Fisher: normalize is {self.normalize!r}; known are 'model', 'tensor' and None")

    def survey(self, blocks: Blocks) -> dict[str, float] | None:
        """The norm of each model's F over all tensors, where `normalize` asks for it."""
        if self.normalize != "model":
            return None
        squares = dict.fromkeys(blocks.names, 0.0)
        for block, found in zip(blocks, blocks.map(lambda block: _sums(block)[1].tolist()), strict=True):
            for name, square in zip(block.names, found, strict=True):
                squares[name] += square
        return {name: square**0.5 for name, square in squares.items()}

    def surveyed_alike(self) -> Any:
        return self.normalize if self.normalize == "model" else None

    def measure(self, block: Block, survey: dict[str, float] | None) -> Measured | None:
        """Each model's factor of F and what is added, for one tensor; None where nothing was measured."""
        if not block.statistics:
            return None
        factors = positive_weights("Fisher", self.weight, block.names)
        if not self.floor and self.normalize != "tensor":
            return Measured(factors / _norms(survey, block), 0.0)
        means, squares = _sums(block)
        factors = factors / (
            _positive(squares.sqrt()) if self.normalize == "tensor" else _norms(survey, block)
        )
        return Measured(factors, self.floor * float((factors * means).mean()))

    def merge(self, part: Part, measured: Measured | None) -> Tensor:  # -> part.shape
        weights = positive_weights("Fisher", self.weight, part.names)
        if measured is None:
            return preconditioned(part.rows, weights, "scalar")
        fisher = _checked(part)
        shape = (-1, *[1] * (fisher.dim() - 1))
        fisher = fisher * measured.factors.to(fisher.dtype).view(shape) + measured.added
        centre = preconditioned(part.rows, weights, "scalar")
        return preconditioned(part.rows, fisher, "diagonal", centre=centre)


def _sums(block: Block) -> tuple[Tensor, Tensor]:  # -> (m,), (m,) float64
    """The mean of each model's F over a tensor, and the sum of its squares."""
    total = torch.zeros(2, len(block), dtype=torch.float64)
    if block.statistics:
        for part in block.parts():
            fisher = _checked(part).double()
            total += torch.stack([fisher.sum(1), fisher.square().sum(1)])
    return total[0] / max(1, block.numel), total[1]


def _norms(survey: dict[str, float] | None, block: Block) -> Tensor:  # -> (m,) float64
    return _positive(values_of(survey if survey is not None else 1.0, block.names))


def _positive(norms: Tensor) -> Tensor:
    return torch.where(norms > 0, norms, 1.0)


def _checked(part: Part) -> Tensor:  # -> (m, *part.shape)
    fisher = torch.empty(len(part.names), *part.shape, dtype=part.block.dtype)
    for row, values in zip(fisher, part.statistics(), strict=True):
        row.copy_(values)
    if not finite(fisher) or (fisher.numel() and fisher.min() < 0):
        wrong = [n for n, one in zip(part.names, fisher, strict=True) if not finite(one) or one.min() < 0]
        raise ValueError(
            f"Fisher: the statistics of tensor {part.block.name!r} hold negative numbers, NaN or infinity "
            f"for {', '.join(wrong)}"
        )
    return fisher
