"""LiNeS: what was merged, scaled up with the depth of the layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Block, Blocks, Part
from equipoise.merging.mergerule import MergeRule, check_numbers
from equipoise.merging.methods import method_named
from equipoise.merging.taskarithmetic import TaskArithmetic

CARD = Card(
    name="LiNeS",
    shape="merge",
    summary="Any method's change to the base, scaled up from the first layer to the last",
    formula="theta_0 + s_l (theta - theta_0), s_l = alpha + beta l / (L - 1); s = alpha outside of layers",
    title="LiNeS: Post-training Layer Scaling Prevents Forgetting and Enhances Model Merging",
    authors=("Wang", "Dimitriadis", "Favero", "Ortiz-Jimenez", "Fleuret", "Frossard"),
    venue="ICLR",
    year=2025,
    arxiv="2410.17146",
    cost="that of the method, and one more pass of it where alpha is to be found",
    use="on top of a method that sums task vectors: first layers, which tasks share, stay near the base",
    avoid="models without a stack of layers, and tasks that differ in their first layers",
    single="what the method gives, scaled",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class LiNeS(MergeRule):
    """What a method merged, its distance from the base scaled up linearly with the depth of the layer.

    theta_0 + s_l (theta - theta_0) with theta what `inner` gives and s_l = alpha + beta l / (L - 1) in layer
    l = 0 ... L - 1 of a stack of L; alpha outside of the stacks (embeddings, heads, norms).

    `inner`: the merging method whose result is scaled, or the name of one. `alpha`: None takes
    |sum_i Delta_i| / |theta - theta_0| / m with sums of absolute values over all tensors, as the authors'
    code does: 1/m for a plain sum. `beta`: to be tuned; the authors search up to 1 (1.5 for TIES), and 0.5 is
    the middle. For one model alone they take beta = 1 - alpha.

    Source: Wang et al., ICLR 2025, and `eval.py`, `aggregation.py` of wang-kee/LiNeS.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base = {"h.0.w": torch.zeros(2), "h.1.w": torch.zeros(2), "head": torch.zeros(2)}
    >>> model = {name: torch.ones(2) for name in base}
    >>> [float(t[0]) for t in merge([model], base, method=LiNeS(alpha=0.25, beta=0.75)).values()]
    [0.25, 1.0, 0.25]
    """

    inner: MergeRule | str = field(default_factory=TaskArithmetic)
    alpha: float | None = None
    beta: float = 0.5

    needs_base = True
    per_model: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        inner = method_named(self.inner) if isinstance(self.inner, str) else self.inner
        for name, value in (
            ("inner", inner),
            ("whole", inner.whole),
            ("by_row", inner.by_row),
            ("statistic", inner.statistic),
            ("copies", inner.copies + 2),
        ):
            object.__setattr__(self, name, value)

    def beside(self, block: Block) -> int:
        return self._method.beside(block)

    def cost(self, block: Block) -> float:
        return (2 if self.alpha is None else 1) * self._method.cost(block) + super().cost(block)

    def bound(self, names: Sequence[str]) -> Self:
        check_numbers(self)
        return replace(self, inner=self._method.bound(names))

    def survey(self, blocks: Blocks) -> Any:  # -> alpha, the method's survey
        found = self._method.survey(blocks)
        if self.alpha is not None:
            return self.alpha, found
        lengths = list(blocks.map(lambda block: self._lengths(block, found)))
        summed, merged = (sum(each) for each in zip(*lengths, strict=True))
        return (summed / merged if merged else 1.0) / len(blocks.names), found

    def surveyed_alike(self) -> Any:
        if self.alpha is None:
            return self.inner
        key = self._method.surveyed_alike()
        return None if key is None else (self.alpha, type(self._method), key)

    def measure(self, block: Block, survey: Any) -> Any:  # -> s_l, what the method measured
        alpha, found = survey
        depth = 0.0 if block.layer is None or block.layers < 2 else block.layer / (block.layers - 1)
        return alpha + self.beta * depth, self._method.measure(block, found)

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        scale, found = measured
        base = part.base.clone()  # the method may write into the part's
        return base + scale * (self._method.merge(part, found) - base)

    @property
    def _method(self) -> MergeRule:
        assert isinstance(self.inner, MergeRule)
        return self.inner

    def _lengths(self, block: Block, survey: Any) -> tuple[float, float]:
        """Sums of absolute values of the sum of the task vectors, and of what the method makes of them."""
        measured = self._method.measure(block, survey)
        summed = merged = 0.0
        for part in self._parts(block):
            base = part.base.clone()
            merged += float((self._method.merge(part, measured) - base).abs().sum(dtype=torch.float64))
            fresh = replace(part)
            summed += float(fresh.deltas.sum(0).abs().sum(dtype=torch.float64))
        return summed, merged

    def _parts(self, block: Block) -> Iterator[Part]:
        yield from [block.whole()] if self.whole else block.parts(by_row=self.by_row)
