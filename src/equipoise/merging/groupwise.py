"""GroupWise: merging within groups of models, then the groups' results with each other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.errors import unknown
from equipoise.merging.average import Average
from equipoise.merging.block import Block, Blocks, Part
from equipoise.merging.engine import merged
from equipoise.merging.mergerule import MergeRule
from equipoise.merging.methods import method_named
from equipoise.merging.source import Source, StateDict

CARD = Card(
    name="GroupWise",
    shape="merge",
    summary="One method merges within groups of models, another the groups' results",
    formula="outer(inner(theta_i, i in group 1), inner(theta_i, i in group 2), ...)",
    title="Asymmetric Conflict and Synergy in Post-training for LLM-based Multilingual Machine Translation",
    authors=("Zheng", "Wen", "Bao", "Guo", "Huang"),
    venue="Findings of ACL",
    year=2025,
    arxiv="2502.11223",
    cost="that of both methods; memory of a part of each group, of a tensor where the inner one wants it",
    use="models that fall into families (languages, domains), near within and apart between",
    avoid="models without such families",
    single="what the methods give for one",
    status="experimental",
    evidence="merging",
)


@dataclass(frozen=True)
class GroupWise(MergeRule):
    """Merges the models of each group by one method, then what the groups gave by another.

    outer(inner(theta_i, i in group 1), inner(theta_i, i in group 2), ...), both around the same base.

    `groups`: the models of each group, by the group's name; without any, all models are one. `inner` and
    `outer`: merging methods, or the names of such. What differs from model to model in `inner` goes by the
    models' names, in `outer` by the groups'. A group of one passes through as it is.

    Use it for families of models; the weight of a family then does not grow with its size.

    Raises ValueError where a group is empty, a model stands in no group or in two, a model is unknown, or
    `outer` asks for measurements of the models.

    Source: our reading of Zheng et al., Findings of ACL 2025, who merge within groups of languages and keep
    one model a group; the second step is ours.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> models = {"a": {"w": torch.zeros(1)}, "b": {"w": torch.ones(1)}, "c": {"w": torch.ones(1)}}
    >>> merge(models, method=GroupWise({"one": ["a", "b"], "two": ["c"]}))["w"]
    tensor([0.7500])
    """

    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inner: MergeRule | str = field(default_factory=Average)
    outer: MergeRule | str = field(default_factory=Average)

    per_model: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        rules = self.inner, self.outer
        inner, outer = (method_named(rule) if isinstance(rule, str) else rule for rule in rules)
        if outer.statistic is not None:
            raise ValueError(
                f"GroupWise: {type(outer).__name__} asks for measurements ({outer.statistic}) of each model, "
                "which groups have not; take it as inner, and another as outer"
            )
        for name, value in (
            ("inner", inner),
            ("outer", outer),
            ("needs_base", inner.needs_base or outer.needs_base),
            ("whole", outer.whole),
            ("by_row", outer.by_row),
            ("statistic", inner.statistic),
            ("copies", inner.copies + outer.copies + len(self.groups)),
        ):
            object.__setattr__(self, name, value)

    def beside(self, block: Block) -> int:
        return sum(method.beside(block) for method in self._methods)

    def cost(self, block: Block) -> float:
        return sum(method.cost(block) for method in self._methods)

    def bound(self, names: Sequence[str]) -> Self:
        groups = {name: tuple(members) for name, members in self.groups.items()} or {"all": tuple(names)}
        placed = [name for members in groups.values() for name in members]
        for name in placed:
            if name not in names:
                raise ValueError(f"GroupWise: {unknown('model', name, names)}")
        for group, members in groups.items():
            if not members:
                raise ValueError(f"GroupWise: group {group!r} has no models")
        if twice := sorted({name for name in placed if placed.count(name) > 1}):
            raise ValueError(f"GroupWise: {', '.join(twice)} stands in two groups, or twice in one")
        if lost := [name for name in names if name not in placed]:
            raise ValueError(
                f"GroupWise: {', '.join(lost)} stands in no group; add one, or leave the model out"
            )
        inner, outer = self._methods
        return replace(self, groups=groups, inner=inner.bound(names), outer=outer.bound(list(groups)))

    def survey(self, blocks: Blocks) -> Any:  # -> {group: the inner survey}, the outer survey
        inner, outer = self._methods
        found = {}
        for group, members in self.groups.items():
            within = [_within(block, members) for block in blocks]
            if several := [block for block in within if len(block) > 1]:
                found[group] = inner.survey(Blocks(several, blocks.threads))
        return found, outer.survey(Blocks([self._across(block, found) for block in blocks], blocks.threads))

    def surveyed_alike(self) -> Any:
        keys = [method.surveyed_alike() for method in self._methods]
        return None if keys == [None, None] else self

    def measure(
        self, block: Block, survey: Any
    ) -> Any:  # -> the block of groups, what the outer one measured
        found, outer_survey = survey
        across = self._across(block, found)
        return across, self._methods[1].measure(across, outer_survey)

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        across, found = measured
        return self._methods[1].merge(Part(across, part.start, part.stop, part.shape), found)

    @property
    def _methods(self) -> tuple[MergeRule, MergeRule]:
        assert isinstance(self.inner, MergeRule)
        assert isinstance(self.outer, MergeRule)
        return self.inner, self.outer

    def _across(self, block: Block, surveys: Mapping[str, Any]) -> Block:
        """The block whose models are the groups."""
        sources = {}
        for group, members in self.groups.items():
            within = _within(block, members)
            if len(within) == 1:
                sources[group] = within.sources[0]
            elif len(within):
                result = _GroupResult(group, self._methods[0], within, surveys[group])
                sources[group] = Source(result, block.name)
        return replace(block, names=tuple(sources), sources=tuple(sources.values()), statistics=())


def _within(block: Block, members: Sequence[str]) -> Block:
    """The block of some of its models."""
    at = [block.names.index(name) for name in members if name in block.names]
    return replace(
        block,
        names=tuple(block.names[i] for i in at),
        sources=tuple(block.sources[i] for i in at),
        statistics=tuple(block.statistics[i] for i in at) if block.statistics else (),
    )


class _GroupResult(StateDict):
    """One tensor as a method merges it, in the place of a model that holds it; worked out when it is read.

    Whatever is asked for, the method sees the parts that it would see alone. The latest is kept until the
    last element was read, so that reading forward works each part out once.
    """

    def __init__(self, group: str, rule: MergeRule, block: Block, survey: Any) -> None:
        super().__init__({}, f"group {group!r}")
        self._rule, self._block, self._survey = rule, block, survey
        self._parts: Iterator[tuple[int, Tensor]] = iter(())
        self._latest = 0, torch.empty(0)

    def shape(self, name: str) -> torch.Size:
        return self._block.shape

    def dtype(self, name: str) -> torch.dtype:
        return self._block.dtype

    def part(self, name: str, start: int, stop: int) -> Tensor:  # -> (stop - start,)
        found = torch.empty(stop - start, dtype=self._block.dtype)
        if start < self._latest[0] or not self._latest[1].numel():
            self._parts = merged(self._rule, self._block, self._survey)
        at = start
        while at < stop:
            first, values = self._latest
            if not first <= at < first + values.numel():
                first, values = next(self._parts)
                self._latest = first, values.reshape(-1)
                continue
            end = min(stop, first + values.numel())
            found[at - start : end - start] = values[at - first : end - first]
            at = end
        if stop == self._block.numel:
            self._parts, self._latest = iter(()), (0, torch.empty(0))
        return found

    def __getitem__(self, name: str) -> Tensor:
        return self.part(name, 0, self._block.numel).view(self._block.shape)
