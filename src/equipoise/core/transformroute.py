"""The route of Gramian rules behind row transforms."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from equipoise.core.call import Call
from equipoise.core.combine import keep_of, overflowed, record, shown, shown_layers, weights_of_each, write
from equipoise.core.gramian import block_gramian, wide
from equipoise.core.passes import Private, add, collect, faulty
from equipoise.core.plan import Schedule
from equipoise.core.schedules import scheduled
from equipoise.core.step import Group, Step
from equipoise.core.transformed import transformed

Visit = Callable[[Tensor, Tensor, Tensor], None]


def by_transformed(call: Call) -> Step:
    """Transformed rows -> Gramian -> weights -> weighted sum of transformed rows.

    Where not all rows fit into the budget they are formed twice, once for the Gramian and once for the sum.
    """
    planned, notes = scheduled(call, whole=True)
    m, once = len(call.names), len(planned.shares) == 1
    keep: tuple[int, ...] = tuple(range(m))
    while True:
        gramians = {group: torch.zeros(m, m, dtype=torch.float64) for group in call.grouped}
        layers: dict[str, Tensor] = {}
        kept: dict[Tensor, Tensor] = {}

        def measure(
            leaf: Tensor, rows: Tensor, seen: Tensor, found=gramians, layers=layers, kept=kept, keep=keep
        ) -> None:
            index = torch.tensor(keep)
            part = torch.zeros(m, m, dtype=torch.float64)
            part[index[:, None], index] = block_gramian(seen).cpu()
            found[call.group_of[leaf]] += part
            if call.layer_of is not None:
                add(layers, call.layer_of[leaf], part)
            if once:
                kept[leaf] = rows

        raw, private, most = _go(call, planned, keep, measure, retain=not once)
        settled = keep_of(call, faulty(call, raw, private))
        if settled is None:
            return overflowed(call, private)
        if settled == keep:
            break
        keep = settled
    total = torch.stack(list(gramians.values())).sum(0)
    seen = shown_layers(call, layers, keep)
    call.tell(shown(total, keep), seen)
    weights = zip(gramians, weights_of_each(call, list(gramians.values()), keep), strict=True)
    groups = {name: Group(one, gramians[name]) for name, one in weights}
    gradients: dict[Tensor, Tensor] = {}

    def combine(leaf: Tensor, rows: Tensor, seen: Tensor) -> None:
        weights = groups[call.group_of[leaf]].weights[list(keep)].to(rows.device, wide(rows.dtype))
        update = weights @ rows.to(wide(rows.dtype)) * (call.scale or 1.0)
        gradients[leaf] = update.to(leaf.dtype).reshape(leaf.shape)

    if once:
        for leaf, rows in kept.items():
            combine(leaf, rows, rows)
    else:
        _go(call, planned, keep, combine, retain=call.retain_graph)
    whole = next(iter(groups.values())).weights if len(groups) == 1 else None
    write(call, gradients, private, keep, whole)
    names = ", ".join(type(one).__name__ for one in call.transforms)
    notes = (*notes, f"weights, Gramian and conflict are of the rows behind {names}")
    plan = planned.record("rows", most, call, notes=notes)
    several = groups if len(groups) > 1 else {}
    return record(call, keep, whole, shown(total, keep), plan, several, seen)


def _go(
    call: Call, planned: Schedule, keep: Sequence[int], visit: Visit, *, retain: bool
) -> tuple[Tensor, Private, int]:
    """Visit the transformed rows of each parameter.

    Gives the Gramian of the rows as they came, the private gradients, and the bytes held at most.
    """
    m, most = len(call.names), 0
    total, private = torch.zeros(m, m, dtype=torch.float64), {}
    for position, share in enumerate(planned.shares):
        last = position == len(planned.shares) - 1
        again = retain or not last or call.retain_graph or call.on_nonfinite != "raise"
        found = collect(call, [share], retain=again, release=True, private=position == 0)
        private |= found.private
        total += found.gramian / (call.scale or 1.0) ** 2
        most = max(most, found.bytes)
        for leaf, held in found.held.items():
            visit(leaf, *transformed(call, leaf, held, keep))
    return total, private, most
