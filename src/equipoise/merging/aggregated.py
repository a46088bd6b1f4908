"""Aggregated: any aggregation rule, with task vectors as its directions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor

from equipoise.core.card import Card, cards
from equipoise.core.errors import unknown
from equipoise.core.rule import GramianRule, RowRule
from equipoise.merging.block import Block, Blocks, Part
from equipoise.merging.blockgramian import gramian_of
from equipoise.merging.mergerule import MergeRule, PerModel, values_of, weighted
from equipoise.merging.methods import plain

CARD = Card(
    name="Aggregated",
    shape="merge",
    summary="The base plus what an aggregation rule makes of the task vectors, as it does of gradients",
    formula="theta_0 + lambda sum_i v_i Delta_i, v = rule(G), G_ij = <Delta_i, Delta_j>",
    title="Jacobian Descent for Multi-Objective Optimization",
    authors=("Quinton", "Rey"),
    venue="arXiv",
    year=2024,
    arxiv="2406.16232",
    cost="two passes, one Gramian; row rules hold a tensor of all models",
    use="no model's change may be undone (UPGrad), or some models may be wrong (medians, trimmed means)",
    avoid="many near-orthogonal task vectors, for which most rules give about a multiple of the mean",
    single="the base moved towards the model by lambda times what the rule gives a direction alone",
    status="main",
    evidence="merging",
)

Scope = Literal["global", "tensor", "layer"]
Aggregation = GramianRule | RowRule


@dataclass(frozen=True)
class Aggregated(MergeRule):
    """The base plus lambda times the direction that an aggregation rule makes of the task vectors.

    theta_0 + lambda sum_i v_i w_i Delta_i with v = rule(G) and G the Gramian of the w_i Delta_i: over all
    tensors ("global"), within each layer ("layer"; a tensor outside of layers on its own) or each "tensor". A
    rule on rows (TrimmedMean, CoordinateMedian) sees the m rows of a tensor and gives its direction.

    `rule`: the name of a rule in `equipoise.aggregation`, built with `options`, or a rule, whose state is not
    advanced. `scale`: lambda. `weight`: w. `preference`: for rules that take one, divided by its sum; what
    only models of preference 0 hold stays as in the base.

    UPGrad on the global Gramian gives a merged task vector with no negative product with any task vector.

    Raises TypeError for what is no aggregation rule; ValueError for an unknown rule, option or scope, a rule
    with transforms of its own (they follow training), and a preference for a rule that takes none.

    Source: our transfer of the rules to task vectors; UPGrad is Quinton and Rey 2024.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base = {"w": torch.zeros(2)}
    >>> models = {"a": {"w": torch.tensor([2.0, 0.0])}, "b": {"w": torch.tensor([-1.0, 1.0])}}
    >>> merge(models, base, method=Aggregated("UPGrad"))["w"]
    tensor([0.5000, 1.0000])
    """

    rule: str | GramianRule | RowRule = "UPGrad"
    scope: Scope = "global"
    scale: float = 1.0
    weight: PerModel = 1.0
    preference: PerModel | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    needs_base = True
    per_model: ClassVar[tuple[str, ...]] = ("weight", "preference")

    def __post_init__(self) -> None:
        if self.scope not in get_args(Scope):
            raise ValueError(f"Aggregated: scope is {self.scope!r}; take one of {get_args(Scope)}")
        rule = self._built()
        if self.preference is not None and not rule.uses("preference"):
            raise ValueError(f"Aggregated: {rule.no_preference()}")
        if isinstance(rule, RowRule):
            object.__setattr__(self, "whole", True)
            object.__setattr__(self, "copies", 14.0)  # a sort keeps values and places

    def bound(self, names: Sequence[str]) -> Self:
        found = super().bound(names)
        if found.preference is not None:
            values = values_of(found.preference, names)
            if bool((values < 0).any()) or not values.sum():
                raise ValueError(f"Aggregated: preference is {self.preference}; it is >= 0 and not all zero")
        return found

    def survey(self, blocks: Blocks) -> Any:  # -> rule, {group: {model: weight}}
        rule = self._built()
        if isinstance(rule, RowRule) or self.scope == "tensor":
            return rule, {}
        names: dict[str, list[str]] = {}
        for block in blocks:
            names.setdefault(self._group(block), []).extend(block.names)
        models = {group: tuple(dict.fromkeys(found)) for group, found in names.items()}
        sums = {group: torch.zeros(len(m), len(m), dtype=torch.float64) for group, m in models.items()}
        for block, gramian in zip(blocks, blocks.map(partial(gramian_of, relative=True)), strict=True):
            group = self._group(block)
            at = torch.tensor([models[group].index(name) for name in block.names])
            sums[group][at[:, None], at] += gramian
        return rule, {
            group: dict(zip(models[group], self._weights(rule, gramian, models[group]), strict=True))
            for group, gramian in sums.items()
        }

    def surveyed_alike(self) -> Any:
        if self.whole or self.scope == "tensor":  # each tensor on its own
            return None
        return self.rule, self.scope, self.weight, self.preference, self.options

    def measure(self, block: Block, survey: Any) -> Any:  # -> (m,), or a row rule
        rule, known = survey
        if isinstance(rule, RowRule):
            return rule
        if self.scope == "tensor":
            return self._weights(rule, gramian_of(block, relative=True), block.names)
        weights = known[self._group(block)]
        return torch.stack([weights[name] for name in block.names])

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        if isinstance(measured, Tensor):
            return part.base + weighted(self.scale * measured, part.deltas)
        rows = part.deltas.view(len(part.names), -1)
        rows *= values_of(self.weight, part.names).to(rows.dtype)[:, None]
        direction = self._call(measured, rows, part.names, block=part.block.name)
        return part.base + self.scale * direction.to(rows.dtype).view(part.shape)

    def _weights(self, rule: Aggregation, gramian: Tensor, names: Sequence[str]) -> Tensor:  # (m, m) -> (m,)
        factors = values_of(self.weight, names)
        return factors * self._call(rule, factors[:, None] * gramian * factors, names)

    @torch.no_grad()
    def _call(self, rule: Aggregation, subject: Tensor, names: Sequence[str], **context: str) -> Tensor:
        preference = None
        if self.preference is not None:
            preference = values_of(self.preference, names)
            if not preference.sum():
                return torch.zeros_like(subject[0])
            preference = preference / preference.sum()
        return rule.apply_to(subject, names=names, preference=preference, **context)

    def _group(self, block: Block) -> str:
        """What a tensor shares its weights with: all others, its layer, or none where it has no layer."""
        if self.scope == "global":
            return ""
        if block.layer is None:
            return block.name
        words = block.name.split(".")
        return ".".join(words[: 1 + next(i for i, word in enumerate(words) if word.isdigit())])

    def _built(self) -> Aggregation:
        rule = rule_named(self.rule, self.options) if isinstance(self.rule, str) else self.rule
        if not isinstance(rule, GramianRule | RowRule):
            raise TypeError(f"Aggregated takes a rule of equipoise.aggregation, or its name, not {rule!r}")
        if rule is self.rule and self.options:
            raise ValueError(f"Aggregated: options go with the name of a rule, and {rule!r} is built already")
        if rule.stages():
            raise ValueError(
                f"Aggregated: {type(rule).__name__} follows its directions through training, which task "
                "vectors do not show; take another rule"
            )
        return rule


def rule_named(name: str, options: Mapping[str, Any]) -> Aggregation:
    """The aggregation rule of this name, whatever its case and dashes, with options of its own.

    Raises ValueError for an unknown name or option, with its nearest neighbours.
    """
    found = cards("aggregation").values()
    kinds = {plain(card.name): card.name for card in found if card.shape in ("gramian", "row")}
    if plain(name) not in kinds:
        raise ValueError(unknown("aggregation rule", name, list(kinds.values())))
    kind: Callable[..., Aggregation] = getattr(import_module("equipoise.aggregation"), kinds[plain(name)])
    known = [option for option in signature(kind).parameters if option not in ("args", "kwargs")]
    for option in options:
        if option not in known:
            raise ValueError(f"{kinds[plain(name)]}: {unknown('option', option, known)}")
    return kind(**options)
