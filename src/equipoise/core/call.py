"""One call of `backward`, checked: what every route works from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Literal

import torch
from torch import Tensor

from equipoise.core.errors import NonFiniteDirection
from equipoise.core.graph import Graph, is_shared, walk
from equipoise.core.groups import Groups, check_groups, grouped, layer_name
from equipoise.core.objectives import (
    Losses,
    Parameters,
    Preference,
    named_losses,
    named_parameters,
    refuse_complex,
    sample_losses,
    simplex_preference,
)
from equipoise.core.observer import Collection, Observer
from equipoise.core.plan import names_of
from equipoise.core.rule import RowTransform, Rule, Scalarizer
from equipoise.core.world import World, refuse_shards

Private = Literal["own", "weighted"]
OnNonFinite = Literal["raise", "skip", "mean"]


@dataclass(frozen=True)
class Call:
    """The objectives present, the leaves they share and own, and the caller's choices.

    `values` are the losses as (m,) float64 on the CPU. `reached` maps each leaf to give a gradient to
    the bit mask of the losses that reach it. `scale` is the factor of a GradScaler, None without one.
    `world` are the processes that train together, None for one alone.
    """

    names: tuple[str, ...]
    losses: tuple[Tensor, ...]
    values: Tensor
    rule: Rule
    reached: dict[Tensor, int]
    preference: Tensor | None
    private: Private
    on_nonfinite: OnNonFinite
    scale: float | None
    retain_graph: bool
    graph: Graph
    named: dict[str, Tensor] | None = None
    world: World | None = None
    budget: int | None = None
    groups: Groups = "all"
    verify: bool = False
    samples: Tensor | None = None
    transforms: tuple[RowTransform, ...] = ()
    observers: tuple[Observer, ...] = ()

    @property
    def vector(self) -> Tensor:  # -> (m,)
        """The losses of the samples as one tensor."""
        assert self.samples is not None
        return self.samples

    @cached_property
    def leaf_names(self) -> list[str]:
        """A name for each shared parameter."""
        return names_of(self.shared, self.named)

    @cached_property
    def grouped(self) -> dict[str, list[Tensor]]:
        """The shared parameters by group."""
        return grouped(self.groups, self.shared, self.leaf_names)

    @cached_property
    def group_of(self) -> dict[Tensor, str]:
        """The group of each shared parameter."""
        return {leaf: group for group, leaves in self.grouped.items() for leaf in leaves}

    @cached_property
    def layer_of(self) -> dict[Tensor, str] | None:
        """The layer of each shared parameter; None where no observer asks for layers."""
        if not any(observer.layers for observer in self.observers):
            return None
        return {leaf: layer_name(name) for leaf, name in zip(self.shared, self.leaf_names, strict=True)}

    def tell(self, gramian: Tensor | None, layers: Mapping[str, Tensor]) -> None:
        """Tell the observers what is known before the update is written."""
        for observer in self.observers:
            observer.collected(Collection(self.names, self.values, gramian, layers))

    def block_name(self, leaf: Tensor) -> str:
        """The place of one shared parameter among all, which a row rule that draws tells them apart by."""
        return next(str(i) for i, other in enumerate(self.shared) if other is leaf)

    @cached_property
    def shared(self) -> list[Tensor]:
        """Leaves that two or more objectives reach, or the only one."""
        return [leaf for leaf in self.reached if self._is_shared(leaf)]

    @cached_property
    def owned(self) -> list[Tensor]:
        """Leaves that belong to one objective among several."""
        return [leaf for leaf in self.reached if not self._is_shared(leaf)]

    def _is_shared(self, leaf: Tensor) -> bool:
        mask, masks = self.reached[leaf], self._objectives
        if len(masks) < len(self.names):
            mask = sum(1 << i for i, losses in enumerate(masks) if losses & mask)
        return is_shared(mask, len(masks))

    @cached_property
    def _objectives(self) -> list[int]:
        """The bit mask of the losses of each objective, of which the rule says which are one."""
        masks: dict[str, int] = {}
        for i, name in enumerate(self.names):
            objective = self.rule.objective_of(name)
            masks[objective] = masks.get(objective, 0) | 1 << i
        return list(masks.values())

    def weigh(self, subject: Tensor, keep: Sequence[int], groups: Sequence[str] = ()) -> Tensor:
        """Ask the rule about the objectives at `keep`, and only about those, on some groups of parameters."""
        names = tuple(self.names[i] for i in keep)
        preference = None if self.preference is None else self.preference[list(keep)]
        if preference is not None and not bool(preference.any()):
            preference = None  # all of it lay on objectives that are skipped
        return self.rule.apply_to(
            subject,
            losses=self.values[list(keep)],
            preference=simplex_preference(preference, names),
            names=names,
            groups=tuple(groups),
        )

    def kept(self, finite: Tensor) -> tuple[int, ...]:  # (m,) bool
        """The objectives to go on with, by the policy; raises NonFiniteDirection where there is none."""
        keep = tuple(i for i, good in enumerate(finite.tolist()) if good)
        if len(keep) < len(self.names) and (self.on_nonfinite == "raise" or not keep):
            bad = [name for i, name in enumerate(self.names) if i not in keep]
            remedy = (
                'on_nonfinite="skip" or "mean" goes on without them' if keep else "none is left to go on with"
            )
            raise NonFiniteDirection(bad, remedy)
        return keep

    def skipped(self, keep: Sequence[int]) -> tuple[str, ...]:
        """Names of the objectives that are not kept."""
        return tuple(name for i, name in enumerate(self.names) if i not in keep)


def prepare(
    losses: Losses,
    rule: Rule,
    *,
    parameters: Parameters,
    preference: Preference,
    private: Private | None,
    on_nonfinite: OnNonFinite,
    scale: float | None,
    retain_graph: bool,
    world: World | None = None,
    budget: int | None = None,
    groups: Groups = "all",
    verify: bool = False,
    samples: bool = False,
    transforms: Sequence[RowTransform] = (),
    observers: Sequence[Observer] = (),
) -> Call:
    """Check what the caller gave, and find the leaves; raises ValueError before anything is computed."""
    if on_nonfinite not in ("raise", "skip", "mean"):
        raise ValueError(f'on_nonfinite is {on_nonfinite!r}; it is "raise", "skip" or "mean"')
    if private not in (None, "own", "weighted"):
        raise ValueError(f'private is {private!r}; it is "own", "weighted" or None')
    vector = sample_losses(losses) if samples else None
    if vector is not None and world is not None:
        raise ValueError("samples=True is for one process; in several, sample i would be another in each")
    present = named_losses(losses if vector is None else vector.unbind())
    names = tuple(present)
    if preference is not None and not rule.uses("preference"):
        raise ValueError(rule.no_preference())
    chosen = named_parameters(parameters)
    check_groups(groups, chosen is not None)
    graph = walk(list(present.values()))
    reached = graph.reached
    if chosen is not None:
        wanted = {id(parameter) for parameter in chosen.values()}
        reached = {leaf: mask for leaf, mask in reached.items() if id(leaf) in wanted}
        if not reached:
            raise ValueError(
                "no loss reaches any of the parameters given; are they those of the model trained?"
            )
    refuse_complex(reached)
    refuse_shards(reached)
    values = _values(present.values())
    if world is not None:
        world.agree(names, reached)
        values = world.mean(values)
    return Call(
        names=names,
        losses=tuple(present.values()),
        values=values,
        rule=rule,
        reached=reached,
        preference=simplex_preference(preference, names, tuple(names) if samples else _given(losses)),
        private=private or ("weighted" if isinstance(rule, Scalarizer) else "own"),
        on_nonfinite=on_nonfinite,
        scale=scale,
        retain_graph=retain_graph,
        graph=graph,
        named=chosen,
        world=world,
        budget=budget,
        groups=groups,
        verify=verify,
        samples=vector,
        transforms=tuple(transforms),
        observers=tuple(observers),
    )


def _values(losses: Iterable[Tensor]) -> Tensor:  # -> (m,)
    """Losses as float64 on the CPU, with one transfer where they lie on one device."""
    found = [loss.detach().double() for loss in losses]
    if len({loss.device for loss in found}) > 1:
        found = [loss.cpu() for loss in found]
    return torch.stack(found).cpu()


def _given(losses: Losses) -> tuple[str, ...]:
    return tuple(losses) if isinstance(losses, Mapping) else tuple(map(str, range(len(losses))))


def accumulate(leaf: Tensor, gradient: Tensor) -> None:
    """Add to `.grad` in place, as autograd does; `gradient` must belong to the caller alone."""
    if leaf.grad is None:
        leaf.grad = gradient
    elif leaf.grad.is_sparse and not gradient.is_sparse:
        leaf.grad = gradient + leaf.grad
    else:
        leaf.grad.add_(gradient)


def finite(gradient: Tensor) -> Tensor:  # -> () bool
    """Whether every entry is finite (of a sparse gradient, every one that is stored), on its device."""
    return (gradient.coalesce().values() if gradient.is_sparse else gradient).isfinite().all()


def all_finite(gradient: Tensor) -> bool:
    """The same as a bool."""
    return bool(finite(gradient))


def device_of(rule: Rule) -> torch.device:
    """Where a rule's parameters and buffers are; the CPU where it has none."""
    return next((tensor.device for tensor in chain(rule.parameters(), rule.buffers())), torch.device("cpu"))
