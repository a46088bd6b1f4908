"""Cheaper routes that the caller asks for: weights from features, from sketches, from earlier steps."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from equipoise.core.call import Call
from equipoise.core.combine import settle
from equipoise.core.faults import explained
from equipoise.core.held import Dense
from equipoise.core.onepass import in_one_pass
from equipoise.core.passes import Collected, Private, collect, differentiate, gramians
from equipoise.core.plan import Plan
from equipoise.core.rule import GramianRule
from equipoise.core.sketch import sketched
from equipoise.core.step import Step

Features = Tensor | Sequence[Tensor]


class Given(GramianRule):
    """Weights that are known already."""

    needs_directions = False

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, gramian: Tensor) -> Tensor:  # (m, m) -> (m,)
        return self.weights


def by_features(call: Call, features: Features) -> Step:
    """Weights from the gradients at a shared representation, then one pass with those weights.

    The Gramian at the parameters is that at the features only up to what lies below them (Sener & Koltun
    2018, MGDA-UB: an upper bound of the norm that MGDA minimises).
    """
    given = [features] if isinstance(features, Tensor) else list(features)
    for place, one in enumerate(given):
        if not one.requires_grad:
            raise ValueError(f"features number {place}, of shape {tuple(one.shape)}, need no gradient")
    m = len(call.losses)
    rows: list[list[Tensor | None]] = [[] for _ in given]
    private: Private = {}
    for i in range(m):
        mine = [leaf for leaf in call.owned if call.reached[leaf] >> i & 1]
        found = differentiate(call, i, [*given, *mine], retain=True)
        for row, gradient in zip(rows, found, strict=False):
            row.append(gradient)
        for leaf, gradient in zip(mine, found[len(given) :], strict=True):
            if gradient is not None:
                private.setdefault(leaf, {})[i] = gradient
    held = {one: Dense(row) for one, row in zip(given, rows, strict=True) if any(g is not None for g in row)}
    if not held:
        raise ValueError("no loss reaches the features; give what the losses were computed from")
    (gramian,) = gramians(held, dict.fromkeys(held, "all"), m).values()
    if call.world is not None:  # features of different processes are different samples
        gramian = call.world.sum(gramian) / call.world.size**2
    collected = Collected({"all": gramian}, reached=set(call.shared), private=private)
    collected.bytes = sum(one.bytes() for one in held.values())
    plan = Plan(
        "features",
        passes=1,
        predicted=collected.bytes,
        measured=collected.bytes,
        approximate="weights are from the gradients at the features, not at the parameters",
    )
    return settle(call, collected, plan)


def by_sketch(call: Call, size: int) -> Step:
    """Weights from sketches of the gradients, then one pass with those weights."""
    with explained(call.names):  # it reads the graph
        planned = sketched(call, size)
    found = collect(call, planned.shares, retain=True, release=True)
    found.held.clear()
    plan = planned.record(
        "directions",
        found.bytes,
        call,
        approximate=f"inner products from sketches of {size} x {size} numbers for each layer",
    )
    return settle(call, found, replace(plan, passes=plan.passes + 1))


def by_previous(call: Call, previous: Step) -> Step:
    """One pass with the weights of an earlier step."""
    assert previous.weights is not None
    step = in_one_pass(replace(call, rule=Given(previous.weights), preference=None))
    age = previous.age + 1
    plan = replace(step.plan, route="reused weights", approximate=f"weights are {age} steps old")
    return replace(step, plan=plan, age=age, preference=call.preference)


def reusable(call: Call, previous: Step, every: int) -> bool:
    """Whether the weights of an earlier step still serve: same objectives, none skipped, young enough."""
    return (
        previous.weights is not None
        and previous.names == call.names
        and not previous.skipped
        and previous.age + 1 < every
        and bool(call.values.isfinite().all())
        and bool(torch.isfinite(previous.weights).all())
    )
