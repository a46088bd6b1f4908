"""Preferred: the weights that one rule finds from the losses, as the preference of another."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from equipoise.core.call import device_of
from equipoise.core.errors import NonFiniteDirection
from equipoise.core.keyed import numbered
from equipoise.core.rule import GramianRule, LossesAfter, RowTransform, Rule, Scalarizer
from equipoise.core.step import Step

Names = Sequence[str] | None


class Preferred(Rule):
    """A rule whose preference is what a scalariser makes of the losses, step by step.

    The weights of `weights`, its derivatives by the losses, are scaled to sum 1 and given to `rule` as its
    preference: FAMO, say, decides how much each objective counts, and UPGrad how they are combined so that
    none is hurt. The result has the shape of `rule` and stands wherever that does; both states advance in
    `update`, and `state_dict` holds both. A preference that the caller gives goes to `weights`, where that
    takes one.

    Where all weights are zero the preference is uniform. Raises TypeError where `rule` is no Gramian rule or
    scalariser (a row rule sees one block, and no preference) or `weights` no scalariser; ValueError where
    `rule` takes no preference, where `weights` has parameters to be learned (their gradient cannot pass
    through a preference), and naming an objective whose weight is negative.

    >>> from equipoise.aggregation import UPGrad
    >>> from equipoise.scalarization import FAMO
    >>> rule = Preferred(UPGrad(), FAMO())
    >>> rule(torch.tensor([[4.0, 0.0], [0.0, 1.0]]), losses=torch.tensor([1.0, 4.0]))
    tensor([0.8000, 0.2000], dtype=torch.float64)
    """

    rule: Rule
    weights: Scalarizer

    def __new__(cls, *rules: Rule, **named: Rule) -> "Preferred":
        if cls is not Preferred:  # a copy is made
            return object.__new__(cls)
        rule = named["rule"] if "rule" in named else rules[0] if rules else None
        for shape, kind in ((GramianRule, _Gramian), (Scalarizer, _Scalarizer)):
            if isinstance(rule, shape):
                return object.__new__(kind)
        raise TypeError(
            f"{rule!r} is no GramianRule or Scalarizer, and nothing else is given a preference; "
            "take one that is, such as UPGrad()"
        )

    def __init__(self, rule: Rule, weights: Scalarizer) -> None:
        super().__init__()
        if not isinstance(weights, Scalarizer):
            raise TypeError(f"{weights!r} is no Scalarizer; the preference comes from one, such as FAMO()")
        if not rule.uses("preference"):
            raise ValueError(rule.no_preference())
        if list(weights.parameters()):
            raise ValueError(
                f"{type(weights).__name__} learns its weights by gradient, which does not pass through a "
                "preference; take a scalariser without parameters, such as FAMO or DWA"
            )
        self.rule, self.weights = rule, weights
        self.needs_directions = rule.needs_directions

    def no_preference(self) -> str:
        weights, rule = type(self.weights).__name__, type(self.rule).__name__
        return f"{weights} takes no preference, and it finds that of {rule}"

    def uses(self, argument: str) -> bool:
        """Whether it takes `argument`: a preference where `weights` does, and what `rule` takes."""
        if argument == "preference":
            return self.weights.uses("preference")
        return super().uses(argument) and (argument in ("losses", "names") or self.rule.uses(argument))

    def stages(self) -> tuple[RowTransform, ...]:
        return self.rule.stages()

    def objective_of(self, name: str) -> str:
        return self.rule.objective_of(name)

    def preference(
        self, losses: Tensor | None, given: Tensor | None = None, names: Names = None
    ) -> Tensor | None:  # (m,), (m,) -> (m,)
        """What `weights` makes of the losses, float64 on the simplex; None where all weights are zero."""
        if losses is None:
            raise ValueError("Preferred weighs by the losses, and none were given")
        names = numbered(names, losses.numel())
        leaf = losses.detach().to(device_of(self.weights), torch.float64).requires_grad_()
        with torch.enable_grad():
            value = self.weights.apply_to(leaf, preference=given, names=names)
            found = torch.autograd.grad(value, leaf, allow_unused=True)[0]
        if found is None or not bool(found.any()):
            return None
        found = found.to(losses.device)
        kind = type(self.weights).__name__
        if not bool(found.isfinite().all()):
            raise NonFiniteDirection(_at(names, ~found.isfinite()), f"{kind} weighs them so")
        if bool((found < 0).any()):
            raise ValueError(
                f"{kind} gives {', '.join(map(repr, _at(names, found < 0)))} a negative weight, and a "
                "preference has none; take a scalariser with weights of 0 or more"
            )
        found = found / found.amax()
        return found / found.sum()

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        """Advance both; `rule` is told the preference that it had in the step."""
        after = cache(losses) if callable(losses) else losses  # computed once, where both ask for them
        self.rule.update(replace(step, preference=self._had(step)), after, epoch_ended)
        self.weights.update(step, after, epoch_ended)

    def _had(self, step: Step) -> Tensor | None:  # -> (m,)
        """The preference of a step over all its objectives, zero for those that were skipped."""
        used = [i for i, name in enumerate(step.names) if name not in step.skipped]
        used = [i for i in used if bool(step.losses[i].isfinite())]
        given = None if step.preference is None else step.preference[used]
        if given is not None:
            given = given / given.sum() if bool(given.any()) else None
        if not used:
            return None
        chosen = self.preference(step.losses[used], given, [step.names[i] for i in used])
        if chosen is None:
            return None
        return torch.zeros_like(step.losses, dtype=chosen.dtype).index_copy(0, torch.tensor(used), chosen)


class _Gramian(Preferred, GramianRule):
    def __init__(self, rule: GramianRule, weights: Scalarizer) -> None:
        super().__init__(rule, weights)
        self.batched, self.crosses = rule.batched, rule.crosses

    def forward(
        self,
        gramian: Tensor,
        *,
        losses: Tensor | None = None,
        preference: Tensor | None = None,
        names: Names = None,
        groups: Sequence[str] = (),
    ) -> Tensor:  # (..., m, m), (m,), (m,) -> (..., m)
        chosen = self.preference(losses, preference, names)
        return self.rule.apply_to(gramian, losses=losses, preference=chosen, names=names, groups=groups)


class _Scalarizer(Preferred, Scalarizer):
    def forward(
        self, losses: Tensor, *, preference: Tensor | None = None, names: Names = None
    ) -> Tensor:  # (m,), (m,) -> ()
        chosen = self.preference(losses, preference, names)
        return self.rule.apply_to(losses, preference=chosen, names=names)


for _kind in (_Gramian, _Scalarizer):
    _kind.__name__ = Preferred.__name__  # in messages and representations; a pickle goes by __qualname__


def _at(names: Sequence[str], wrong: Tensor) -> list[str]:  # (m,) bool
    return [name for name, bad in zip(names, wrong.tolist(), strict=True) if bad]
