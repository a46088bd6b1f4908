"""What a rule makes of directions and losses, whatever its shape."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.core.rule import GramianRule, RowRule, Rule, Scalarizer
from equipoise.core.step import Step
from equipoise.core.transformed import staged


@dataclass(frozen=True, slots=True)
class Answer:
    """A rule's answer: the update (k,) and the weights (m,), None for a row rule.

    `size` is the sum of the lengths that went into the update, `length` the mean length of the
    directions: rounding is relative to the first, and for a rule of degree 1 to the larger of the two.
    """

    update: Tensor
    weights: Tensor | None
    size: float
    length: float

    def scale(self, degree: float | None) -> float:
        """What rounding is relative to, for a rule of this degree."""
        return max(self.size, self.length) if degree == 1 else self.size

    @property
    def finite(self) -> bool:
        """Whether neither holds NaN or infinity."""
        weights = self.update if self.weights is None else self.weights
        return bool(self.update.isfinite().all() and weights.isfinite().all())


def names_for(m: int) -> tuple[str, ...]:
    """Names for m objectives."""
    return tuple(f"objective {i}" for i in range(m))


def losses_for(m: int) -> Tensor:  # -> (m,)
    """Positive losses of m objectives, no two alike."""
    return torch.linspace(0.4, 1.7, m, dtype=torch.float64) if m > 1 else torch.ones(1, dtype=torch.float64)


def ask(
    rule: Rule,
    rows: Tensor,
    *,
    losses: Tensor | None = None,
    preference: Tensor | None = None,
    names: Sequence[str] | None = None,
) -> Answer:  # (m, k), (m,), (m,)
    """What the rule makes of m directions, with losses and names made up where none are given.

    Raises TypeError for what is no rule.

    >>> from equipoise.aggregation import Mean
    >>> ask(Mean(), torch.tensor([[2.0, 0.0], [-1.0, 1.0]])).update.tolist()
    [0.5, 0.5]
    """
    m = len(rows)
    losses = losses_for(m) if losses is None else losses
    context = {"losses": losses, "preference": preference, "names": tuple(names or names_for(m))}
    exact, seen = staged(rule.stages(), rows.to(torch.float64), "block", context["names"], losses)
    lengths = exact.norm(dim=1)
    match rule:
        case Scalarizer():
            weights = weigh(rule, losses, preference=preference, names=context["names"]).to(torch.float64)
        case GramianRule():
            with torch.no_grad():
                weights = rule.apply_to(seen @ seen.T, **context)
        case RowRule():
            with torch.no_grad():
                update = rule.apply_to(rows, block="block", **context)
            return Answer(update.to(torch.float64), None, float(lengths.sum()), float(lengths.mean()))
        case _:
            raise TypeError(f"{type(rule).__name__} is no Scalarizer, GramianRule or RowRule")
    return Answer(weights @ exact, weights, float(weights.abs() @ lengths), float(lengths.mean()))


def weigh(
    rule: Rule, losses: Tensor, *, preference: Tensor | None = None, names: Sequence[str] | None = None
) -> Tensor:  # (m,) -> (m,)
    """The weights of a scalariser: the derivatives of its value by the losses."""
    leaf = losses.detach().clone().requires_grad_()
    with torch.enable_grad():
        value = rule.apply_to(leaf, preference=preference, names=tuple(names or names_for(len(losses))))
    (weights,) = torch.autograd.grad(value, leaf, allow_unused=True)
    return torch.zeros_like(losses) if weights is None else weights


def advance(
    rule: Rule,
    rows: Tensor,
    *,
    losses: Tensor | None = None,
    names: Sequence[str] | None = None,
    epoch_ended: bool = False,
) -> None:  # (m, k), (m,)
    """One training step in miniature: ask, then `update` with losses that fell, the first ones most."""
    m = len(rows)
    losses = losses_for(m) if losses is None else losses
    names = tuple(names or names_for(m))
    answer = ask(rule, rows, losses=losses, names=names)
    _, seen = staged(rule.stages(), rows.to(torch.float64), "block", names, losses)
    gramian = seen @ seen.T if isinstance(rule, GramianRule) else None
    after = losses * torch.linspace(0.6, 0.95, m, dtype=losses.dtype)
    rule.update(
        Step(names, losses.to(torch.float64), answer.weights, gramian),
        losses=lambda: dict(zip(names, after, strict=True)),
        epoch_ended=epoch_ended,
    )
