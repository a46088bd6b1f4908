"""ModelStock: the average, drawn to the base as far as the task vectors disagree."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Block, Part
from equipoise.merging.blockgramian import combined, gramian_of, row_gramians
from equipoise.merging.mergerule import MergeRule

CARD = Card(
    name="ModelStock",
    shape="merge",
    summary="The average, drawn to the base as far as the task vectors' directions disagree",
    formula="t mean_i theta_i + (1 - t) theta_0, t = m c / (1 + (m - 1) c), c the mean cosine of pairs",
    title="Model Stock: All we need is just a few fine-tuned models",
    authors=("Jang", "Yun", "Han"),
    venue="ECCV",
    year=2024,
    arxiv="2403.19522",
    cost="two passes; memory of a part",
    use="a few models of one task, fine-tuned from one base with other seeds or settings",
    avoid="models of unlike tasks: near-orthogonal task vectors leave the base almost as it was",
    single="the model itself",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class ModelStock(MergeRule):
    """The average of the models, drawn to the base by the angle between their task vectors, tensor by tensor.

    t mean_i theta_i + (1 - t) theta_0 with t = m c / (1 + (m - 1) c) and c the mean cosine of the pairs of
    task vectors (paper: cos theta): the point of the plane through the models that is nearest to where many
    of them would centre, if all were of one length and at one angle. That holds for angles up to 90 degrees:
    where c is negative, t is too, without bound as 1 + (m - 1) c nears zero, so that it is kept in [0, 1];
    `clamp=False` is the formula, with the base where 1 + (m - 1) c is zero (opposites). A zero task vector
    has cosine 0 with all others. `filter_wise` takes an angle for each output filter (first axis) of a tensor
    with two axes or more.

    Use it for models of one task. Avoid it for unlike tasks, whose task vectors are near orthogonal.

    Source: Jang, Yun and Han, ECCV 2024, equation 3 and its extension to m models; filters of convolutions
    are whole here, in mergekit 0.1.5 rows of the last axis. t is not clamped there.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base = {"w": torch.zeros(2)}
    >>> models = [{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.5, 0.75**0.5])}]  # 60 degrees
    >>> merge(models, base, method=ModelStock())["w"]
    tensor([0.5000, 0.2887])
    """

    filter_wise: bool = False
    clamp: bool = True

    needs_base = True
    per_model: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_row", self.filter_wise)

    def measure(self, block: Block, survey: Any) -> Any:  # -> () or (filters,)
        if len(block) == 1:
            return torch.ones((), dtype=torch.float64)
        if self.filter_wise and len(block.shape) > 1:
            found = ratio(_filter_gramians(block))
        else:
            found = ratio(gramian_of(block, relative=True)[None])[0]
        return found.clamp(0, 1) if self.clamp else found

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        m = len(part.names)
        if not measured.dim():
            return combined(part, (measured / m).expand(m), relative=True)
        width = part.block.shape[-1]
        mean = part.deltas.mean(0).view(-1, width)
        t = measured[_filters(part)].to(mean.dtype)
        return part.base + (t[:, None] * mean).view(part.shape)


def ratio(gramians: Tensor) -> Tensor:  # (n, m, m) -> (n,)
    """t of each Gramian of task vectors."""
    m = gramians.shape[-1]
    norms = gramians.diagonal(dim1=-2, dim2=-1).sqrt()
    units = torch.where(norms > 0, 1 / norms, 0.0)
    cosines = (units[:, :, None] * gramians * units[:, None]).clamp(-1, 1)
    c = cosines[:, *torch.triu_indices(m, m, 1)].mean(-1)
    below = 1 + (m - 1) * c
    singular = below <= m * torch.finfo(torch.float32).eps
    return torch.where(singular, 0.0, m * c / torch.where(singular, 1.0, below))


def _filter_gramians(block: Block) -> Tensor:  # -> (filters, m, m)
    m = len(block)
    sums = torch.zeros(block.shape[0], m, m, dtype=torch.float64)
    for part in block.parts(by_row=True):
        rows = part.deltas.view(m, -1, block.shape[-1])
        sums.index_add_(0, _filters(part), row_gramians(rows))
    return sums


def _filters(part: Part) -> Tensor:  # -> (rows,)
    """The filter that each row of the last axis belongs to."""
    shape = part.block.shape
    rows = torch.arange(part.start // shape[-1], part.stop // shape[-1])
    return rows // shape[1:-1].numel()
