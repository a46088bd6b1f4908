"""Two independent batches in one step: Gramians that the noise of a batch does not bias."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from equipoise.core.rule import GramianRule, LossesAfter, RowTransform
from equipoise.core.step import Group, Step

SECOND = " (second batch)"

Number = TypeVar("Number", Tensor, float)


def pair(
    first: Mapping[str, Number | None] | Sequence[Number],
    second: Mapping[str, Number | None] | Sequence[Number],
) -> dict[str, Number]:
    """The losses of two batches as one set of objectives, half of each, for a rule in `TwoBatches`.

    The second batch's are called "NAME (second batch)". An objective absent (None) from either is left out.
    A preference is paired in the same way: `preference=pair(p, p)`.

    Raises ValueError where the batches have other objectives.

    >>> sorted(pair({"a": 1.0, "b": 4.0}, {"a": 3.0, "b": 2.0}).items())
    [('a', 0.5), ('a (second batch)', 1.5), ('b', 2.0), ('b (second batch)', 1.0)]
    """
    one, two = _named(first), _named(second)
    if one.keys() != two.keys():
        odd = ", ".join(sorted(one.keys() ^ two.keys()))
        raise ValueError(f"both batches must have the same objectives; only one has {odd}")
    found: dict[str, Number] = {}
    for suffix, losses, others in (("", one, two), (SECOND, two, one)):
        for name, loss in losses.items():
            if loss is not None and others[name] is not None:
                found[name + suffix] = loss / 2
    return found


class TwoBatches(GramianRule):
    """A Gramian rule that is shown J1 J2', the inner products of one batch's directions with another's.

    JJ' of one batch is too large on average: the noise of a direction meets itself. Between two independent
    batches it does not, so that the mean of J1 J2' over the batches is JJ' of all data. Both batches then
    give the update: the weighted sum of the means of their directions.

    `backward(pair(losses1, losses2), TwoBatches(rule))` costs 2m backward passes, as two steps would. The
    rule sees m names, and for each the sum of the halved losses, which is the mean of the two. A parameter
    that both halves of one objective reach, and no other, is private and gets the mean of the two gradients.

    A rule with `crosses` (MoDo) is given J1 J2' as it is. Any other wants a true Gramian: it is given the
    mean of J1 J2' and J2 J1', which has the same mean, and where noise has left negative eigenvalues, the
    nearest matrix without them, in units of the lengths of the directions. What is set to zero there is
    bias, less of it the larger the batches.

    An objective whose other half is skipped as not finite gets no weight in that step, and its private
    parameters half of the gradient that is left. `update` hands the
    rule a step of m names. Raises TypeError for what is no GramianRule, ValueError for losses that are no
    pairs.

    Source: Xiao, Ban and Ji 2023 (SDMGrad) and Chen et al. 2023 (MoDo, equation 2.9), for their own rules.

    >>> from equipoise.core.backward import backward
    >>> from equipoise.aggregation import MoDo
    >>> w = torch.ones(2, requires_grad=True)
    >>> batches = [(w - 1.5).square(), (w - 0.5).square()]
    >>> backward(pair(*batches), TwoBatches(MoDo())).weights.tolist()
    [0.5, 0.5, 0.5, 0.5]
    """

    def __init__(self, rule: GramianRule) -> None:
        super().__init__()
        if not isinstance(rule, GramianRule):
            raise TypeError(f"{rule!r} is no GramianRule, so it takes no inner products")
        self.rule = rule
        self.needs_directions = rule.needs_directions

    def stages(self) -> tuple[RowTransform, ...]:
        return self.rule.stages()

    def objective_of(self, name: str) -> str:
        return self.rule.objective_of(name.removesuffix(SECOND))

    def uses(self, argument: str) -> bool:
        return argument == "names" or self.rule.uses(argument)

    def forward(
        self,
        gramian: Tensor,
        *,
        losses: Tensor | None = None,
        preference: Tensor | None = None,
        names: Sequence[str] = (),
        groups: Sequence[str] = (),
    ) -> Tensor:  # (2m, 2m), (2m,), (2m,) -> (2m,)
        first, second = places(names)
        chosen = None if preference is None else preference[first] + preference[second]
        weights = self.rule.apply_to(
            self._crossed(gramian.double(), first, second),
            losses=None if losses is None else losses[first] + losses[second],
            preference=None if chosen is None or not chosen.any() else chosen / chosen.sum(),
            names=tuple(names[i] for i in first),
            groups=groups,
        )
        both = weights.new_zeros(len(names))
        both[first] = both[second] = weights
        return both

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        first, second = places(step.names)
        parts = {name: self._part(part, first, second) for name, part in step.groups.items()}
        whole = None if step.gramian is None else self._crossed(step.gramian, first, second)
        used = None if step.preference is None else step.preference[first] + step.preference[second]
        skipped = {name.removesuffix(SECOND) for name in step.skipped}
        small = replace(
            step,
            names=tuple(step.names[i] for i in first),
            losses=step.losses[first] + step.losses[second],
            weights=None if step.weights is None else step.weights[first],
            gramian=whole,
            skipped=tuple(step.names[i] for i in first if step.names[i] in skipped),
            preference=used,
            groups=parts,
        )
        self.rule.update(small, None if losses is None else lambda: _joined(losses), epoch_ended)

    def _part(self, part: Group, first: Sequence[int], second: Sequence[int]) -> Group:
        return Group(part.weights[first], self._crossed(part.gramian, first, second))

    def _crossed(self, gramian: Tensor, first: Sequence[int], second: Sequence[int]) -> Tensor:  # -> (m, m)
        cross = 4 * gramian[first][:, second]  # the losses were halved
        if self.rule.crosses:
            return cross
        lengths = 2 * gramian.diagonal().clamp(min=0).sqrt()
        return true_gramian((cross + cross.T) / 2, (lengths[first] * lengths[second]).sqrt())


def places(names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Where the objectives stand that have both halves, and where their second halves do.

    Raises ValueError where there is none.
    """
    at = {name: i for i, name in enumerate(names)}
    firsts = [name for name in names if name + SECOND in at]
    if not firsts:
        shown = ", ".join(names) or "no names"
        raise ValueError(
            f"TwoBatches takes the losses of two batches, as pair(losses1, losses2) gives them; got {shown}"
        )
    return [at[name] for name in firsts], [at[name + SECOND] for name in firsts]


def true_gramian(matrix: Tensor, lengths: Tensor) -> Tensor:  # (m, m), (m,) -> (m, m)
    """The nearest matrix without negative eigenvalues, measured in units of some lengths."""
    divisor = torch.where(lengths > 0, lengths, 1.0)
    values, vectors = torch.linalg.eigh(matrix / divisor / divisor[:, None])
    if bool((values >= 0).all()):
        return matrix
    nearest = (vectors * values.clamp(min=0)) @ vectors.T
    return nearest * divisor * divisor[:, None]


def _named(losses: Mapping[str, Number | None] | Sequence[Number]) -> dict[str, Number | None]:
    return dict(losses if isinstance(losses, Mapping) else {str(i): loss for i, loss in enumerate(losses)})


def _joined(losses: LossesAfter) -> dict[str, Tensor]:
    after = losses() if callable(losses) else losses or {}
    return {name: loss + after[name + SECOND] for name, loss in after.items() if name + SECOND in after}
