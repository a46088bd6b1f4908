"""TIES: trim small changes, elect a sign for every element, merge those that agree."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.errors import unknown
from equipoise.merging.block import Block, Blocks, Part
from equipoise.merging.digits import global_values
from equipoise.merging.mergerule import MergeRule, PerModel, values_of
from equipoise.merging.signs import Reduce, agreed, column, elected
from equipoise.merging.sparserule import check_shares
from equipoise.merging.threshold import ALL, NONE, Threshold, kept, thresholds, trim

CARD = Card(
    name="TIES",
    shape="merge",
    summary="Keep the largest changes of each model, elect a sign for each element, merge those that agree",
    formula="theta_0 + lambda mean{trim(delta_i): sign(trim(delta_i)) = sign(sum_j trim(delta_j))}",
    title="TIES-Merging: Resolving Interference When Merging Models",
    authors=("Yadav", "Tam", "Choshen", "Raffel", "Bansal"),
    venue="NeurIPS",
    year=2023,
    arxiv="2306.01708",
    cost="two passes to find thresholds, one to merge (global scope: one more, for the majority sign)",
    use="several tasks from one base whose changes contradict each other",
    avoid="two models that hardly overlap: trimming then only loses something (task arithmetic)",
    single="the base plus lambda times the largest changes of the model",
    status="main",
    evidence="merging",
)

BY_PRESET: Any = None

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "density": 0.2,
        "scale": 1.0,
        "scope": "global",
        "reduce": "mean",
        "count": "all",
        "undecided": "majority",
    },
    "mergekit": {
        "density": 1.0,
        "scale": 1.0,
        "scope": "tensor",
        "reduce": "mean",
        "count": "exact",
        "undecided": "positive",
    },
    "fusion_bench": {
        "density": 0.2,
        "scale": 0.3,
        "scope": "global",
        "reduce": "sum",
        "count": "all",
        "undecided": "majority",
    },
}
"""Three programs mean three things by the name of this method."""


class _Measured(NamedTuple):
    found: dict[str, Threshold]
    undecided: float


@dataclass(frozen=True)
class TIES(MergeRule):
    """Trim small changes, elect a sign for every element, merge those that agree.

    With delta_i trimmed to its largest elements and gamma = sign(sum_j w_j delta_j):
    theta_0 + lambda sum_i w_i delta_i [sign(w_i delta_i) = gamma] / sum_i |w_i| [the same].

    `density`: the share kept (K), of all elements (`scope="global"`) or of each tensor (`scope="tensor"`).
    `weight`: w; `scale`: lambda. `reduce`: the mean above, or "sum" or "max" of those that agree.
    `count`: "all" keeps all elements that equal the threshold, which is the magnitude of rank
    floor(K d) + 1; "exact" keeps floor(K d) elements, at least one, of equal ones the first.
    `undecided`: the sign where votes cancel, "positive" or that of the "majority" of elements.
    What is not given is as in `preset`: "paper", "mergekit" or "fusion_bench". All these differ: where layers
    change by unlike amounts, a global threshold keeps almost nothing of the quiet ones.

    Raises ValueError for shares outside of 0 to 1, unknown presets or choices, and exact counts with global
    scope.

    Source: Yadav et al., NeurIPS 2023, algorithm 1; counts and ties as in the authors' code.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base = {"w": torch.zeros(3)}
    >>> models = [{"w": torch.tensor([1.0, 2.0, 0.1])}, {"w": torch.tensor([3.0, -1.0, 0.1])}]
    >>> merge(models, base, method=TIES(density=0.5))["w"]
    tensor([2., 2., 0.])
    """

    preset: str = "paper"
    weight: PerModel = 1.0
    density: PerModel = BY_PRESET
    scale: float = BY_PRESET
    scope: Literal["global", "tensor"] = BY_PRESET
    reduce: Reduce = BY_PRESET
    count: Literal["all", "exact"] = BY_PRESET
    undecided: Literal["majority", "positive"] = BY_PRESET

    needs_base = True
    per_model = ("weight", "density")

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"TIES: {unknown('preset', self.preset, PRESETS)}")
        for option, usual in PRESETS[self.preset].items():
            if getattr(self, option) is None:
                object.__setattr__(self, option, usual)
        for option, known in _CHOICES.items():
            if getattr(self, option) not in known:
                raise ValueError(f"TIES: {option} is {getattr(self, option)!r}; it is one of {known}")
        check_shares("TIES: density", self.density)
        if self.scope == "global" and self.count == "exact":
            raise ValueError('TIES: count="exact" is for scope="tensor"; a global threshold keeps all equals')

    def survey(self, blocks: Blocks) -> _Measured | None:
        if self.scope == "tensor":
            return None
        numel = {name: sum(b.numel for b in blocks if name in b.names) for name in blocks.names}
        ranks = {name: self._rank(name, numel[name]) for name in numel}
        values = global_values(blocks, {n: rank for n, rank in ranks.items() if 0 < rank < numel[n]})
        found = {name: ALL if rank else NONE for name, rank in ranks.items()}
        found |= {name: Threshold(value, max(numel.values())) for name, value in values.items()}
        return _Measured(found, self._majority(blocks, found))

    def surveyed_alike(self) -> Any:
        if self.scope == "tensor":
            return None
        weight = self.weight if self.undecided == "majority" else 1.0
        return self.density, self.count, self.undecided, weight

    def measure(self, block: Block, survey: _Measured | None) -> _Measured:
        if survey is not None:
            return survey
        ranks = [[self._rank(name, block.numel)] for name in block.names]
        rows = thresholds(block, ranks, exact=self.count == "exact")
        found = {name: row[0] for name, row in zip(block.names, rows, strict=True)}
        return _Measured(found, self._majority(Blocks([block]), found))

    def merge(self, part: Part, measured: _Measured) -> Tensor:  # -> part.shape
        votes = self._votes(part, measured.found)
        weights = values_of(self.weight, part.names)
        merged = agreed(votes, weights, reduce=self.reduce, undecided=measured.undecided)
        return part.base.add_(merged, alpha=self.scale)

    def _rank(self, name: str, numel: int) -> int:
        share = float(values_of(self.density, [name]))
        if self.count == "exact" or share in (0, 1):
            return kept(share, numel)
        return int(share * numel) + 1

    def _votes(self, part: Part, found: dict[str, Threshold]) -> Tensor:  # -> (m, *shape)
        votes = trim(part, part.deltas, [found[name] for name in part.names])
        return votes.mul_(column(values_of(self.weight, part.names), votes))

    def _majority(self, blocks: Blocks, found: dict[str, Threshold]) -> float:
        """The sign that most elements elect, which decides where votes cancel."""
        if self.undecided == "positive" or len(blocks.names) < 2:
            return 1.0

        def balance(block: Block) -> int:
            votes = (self._votes(part, found) for part in block.parts())
            return sum(int((elected(v) + elected(v, -1.0)).sum() / 2) for v in votes)

        return 1.0 if sum(blocks.map(balance)) > 0 else -1.0


_CHOICES = {
    "scope": ("global", "tensor"),
    "reduce": ("mean", "sum", "max"),
    "count": ("all", "exact"),
    "undecided": ("majority", "positive"),
}
