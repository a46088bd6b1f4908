"""The engine against plain autograd, on the same graph."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from equipoise.core.call import Call
from equipoise.core.errors import VerificationFailed
from equipoise.core.gramian import keeps_digits, product
from equipoise.core.held import Dense, Held
from equipoise.core.plan import Choice

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How far inner products may lie apart, relative to the lengths of the two directions on the parameter,
and updates, relative to the lengths that went into them; by the coarsest dtype that took part."""

ROUNDING = 16
"""Roundings of the whole directions that are allowed beside: a gradient that is zero but for them (the
bias of an attention's keys) has no digits of its own."""


def verify(
    call: Call,
    choices: Sequence[Choice],
    held: Mapping[Tensor, Held],
    gradients: Mapping[Tensor, Tensor],
    weights: Mapping[Tensor, Sequence[float]],
) -> None:
    """Raise VerificationFailed naming the parameters where inner products or the update are wrong.

    Costs one backward pass and one copy of the gradients for each objective.
    """
    m = len(call.losses)
    leaves = [choice.leaf for choice in choices]
    explicit: list[list[Tensor | None]] = [[None] * m for _ in leaves]
    for i, loss in enumerate(call.losses):
        seed = torch.full_like(loss, call.scale or 1.0)
        found = torch.autograd.grad(loss, leaves, seed, retain_graph=True, allow_unused=True)
        for rows, gradient in zip(explicit, found, strict=True):
            rows[i] = gradient if call.world is None or gradient is None else call.world.mean(gradient)
    wrong = {}
    whole = _lengths(explicit, m)
    for choice, rows in zip(choices, explicit, strict=True):
        if any(row is not None for row in rows):
            gap = _gap(choice, Dense(rows), held.get(choice.leaf), gradients, weights, whole)
            allowed = TOLERANCE[_coarsest(choice)]
            if not gap <= allowed:
                wrong[choice.name] = f"{choice.name} as {choice.form!r} by {gap:.2g} (allowed {allowed:.2g})"
        elif choice.leaf in gradients:
            wrong[choice.name] = f"{choice.name} is reached by no loss"
    if wrong:
        raise VerificationFailed(wrong, "; ".join(wrong.values()))


def _lengths(explicit: Sequence[Sequence[Tensor | None]], m: int) -> Tensor:  # -> (m,)
    """Lengths of the whole directions."""
    squares = torch.zeros(m, dtype=torch.float64)
    for rows in explicit:
        if any(row is not None for row in rows):
            squares += Dense(rows).gramian(m, exact=True).diagonal().cpu()
    return squares.clamp(min=0).sqrt()


def _gap(
    choice: Choice,
    explicit: Dense,
    held: Held | None,
    gradients: Mapping[Tensor, Tensor],
    weights: Mapping[Tensor, Sequence[float]],
    whole: Tensor,
) -> float:
    """The larger of both relative distances; infinite where the parameter was forgotten."""
    kind = _coarsest(choice)
    floor = ROUNDING * torch.finfo(kind).eps / TOLERANCE[kind] * whole
    exact = explicit.gramian(len(whole), exact=True).cpu()
    lengths = exact.diagonal().clamp(min=0).sqrt() + floor
    gap = 0.0
    if held is not None:
        found = held.gramian(len(whole))
        if not keeps_digits(found.diagonal()):
            found = held.gramian(len(whole), exact=True)
        sizes = torch.outer(lengths, lengths).clamp(min=torch.finfo(torch.float64).tiny)
        gap = float(((found.cpu() - exact) / sizes).abs().max())
    if choice.leaf in weights:
        if choice.leaf not in gradients:
            return float("inf")
        numbers = weights[choice.leaf]
        size = sum(abs(w) * float(length) for w, length in zip(numbers, lengths, strict=True))
        wanted = _dense(explicit.combine(numbers)).double()
        off = (_dense(gradients[choice.leaf]).double() - wanted).reshape(1, -1)
        distance = float(product(off, off, torch.float64).sqrt())
        gap = max(gap, distance / size if size else distance)
    return gap


def _dense(tensor: Tensor) -> Tensor:
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def _coarsest(choice: Choice) -> torch.dtype:
    kinds = {choice.leaf.dtype, *(use.dtype for use in choice.uses)}
    return max(kinds, key=lambda dtype: torch.finfo(dtype).eps)
