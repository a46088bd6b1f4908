"""The routes of Gramian and row rules: m directions, block by block, into one."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from equipoise.core.bundle import Bundle
from equipoise.core.call import Call, accumulate, all_finite
from equipoise.core.groups import layer_name
from equipoise.core.held import Held, filled
from equipoise.core.passes import Collected, Private, add, collect, faulty
from equipoise.core.plan import Choice, Plan
from equipoise.core.rule import GramianRule
from equipoise.core.schedules import scheduled
from equipoise.core.step import Group, Step
from equipoise.core.transformed import transformed
from equipoise.core.verify import verify

Gradients = dict[Tensor, Tensor]


def by_gramian(call: Call) -> Step:
    """Gramian -> weights -> weighted sum of directions, once for all parameters or for each group."""
    planned, notes = scheduled(call)
    retain = call.retain_graph or planned.again or call.verify
    found = collect(call, planned.shares, retain=retain, release=planned.again)
    route = "directions" if call.samples is None else "samples"
    return settle(call, found, planned.record(route, found.bytes, call, notes=notes), planned.choices)


def settle(call: Call, found: Collected, plan: Plan, choices: Sequence[Choice] = ()) -> Step:
    """Weights from the Gramians, the update into `.grad`."""
    scale = call.scale or 1.0
    gramian = found.gramian / scale**2
    keep = keep_of(call, faulty(call, gramian, found.private))
    if keep is None:
        return overflowed(call, found.private)
    layers = shown_layers(call, found.layers, keep, call.scale)
    call.tell(shown(gramian, keep), layers)
    own = {name: part / scale**2 for name, part in found.gramians.items()}
    weights = zip(own, weights_of_each(call, list(own.values()), keep), strict=True)
    groups = {name: Group(one, shown(own[name], keep)) for name, one in weights}
    gradients: Gradients = {}
    for name, leaves in call.grouped.items():
        gradients |= _combined(call, leaves, groups[name].weights, found)
    if call.verify:
        numbers = {leaf: groups[call.group_of[leaf]].weights.tolist() for leaf in gradients}
        verify(call, choices, found.held, gradients, numbers)
    whole = next(iter(groups.values())).weights if len(groups) == 1 else None
    write(call, gradients, found.private, keep, whole)
    several = groups if len(groups) > 1 else {}
    return record(call, keep, whole, shown(gramian, keep), plan, several, layers)


def by_rows(call: Call) -> Step:
    """Rows of one block at a time -> direction of that block."""
    if call.private == "weighted":
        raise ValueError(f'{type(call.rule).__name__} has no weights, so private is "own", not "weighted"')
    m, everyone = len(call.names), tuple(range(len(call.names)))
    planned, notes = scheduled(call, whole=True)
    keep, scale, most = everyone, call.scale or 1.0, 0
    while True:
        gradients, private, total, bad = {}, {}, torch.zeros(m, m, dtype=torch.float64), None
        layers = {}
        for position, share in enumerate(planned.shares):
            last = position == len(planned.shares) - 1
            again = call.retain_graph or call.verify or not last or call.on_nonfinite != "raise"
            found = collect(call, [share], retain=again, release=True, private=position == 0)
            if call.verify:
                verify(call, share.choices, found.held, {}, {})
            private |= found.private
            total += found.gramian / scale**2
            for name, part in found.layers.items():
                add(layers, name, part)
            most = max(most, found.bytes)
            bad = faulty(call, total, private)
            if call.scale is not None and bool(bad.any()):
                return overflowed(call, private)
            kept = keep_of(call, bad)
            if kept != keep and kept is not None and position > 0:
                break  # what went before was made with an objective that is now left out
            keep = kept or keep
            gradients |= dict(_directions(call, found.held, keep))
        else:
            break
        keep = kept or keep
    layers = shown_layers(call, layers, keep, call.scale)
    call.tell(shown(total, keep), layers)
    write(call, gradients, private, keep, None)
    plan = planned.record("rows", most, call, notes=notes)
    return record(call, keep, None, shown(total, keep), plan, layers=layers)


def settle_rows(call: Call, found: Collected, plan: Plan) -> Step:
    """The direction of a row rule from what is held of all parameters, into `.grad`."""
    if call.private == "weighted":
        raise ValueError(f'{type(call.rule).__name__} has no weights, so private is "own", not "weighted"')
    gramian = found.gramian / (call.scale or 1.0) ** 2
    keep = keep_of(call, faulty(call, gramian, found.private))
    if keep is None:
        return overflowed(call, found.private)
    layers = shown_layers(call, found.layers, keep, call.scale)
    call.tell(shown(gramian, keep), layers)
    write(call, dict(_directions(call, found.held, keep)), found.private, keep, None)
    return record(call, keep, None, shown(gramian, keep), plan, layers=layers)


def _directions(
    call: Call, held: Mapping[Tensor, Held], keep: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The direction of each parameter by a row rule, the rows of one parameter in memory at a time."""
    plain = _plain(call, keep)
    for leaf, one in held.items():
        if plain:
            yield leaf, one.combine([1 / len(keep) if i in keep else 0.0 for i in range(len(call.names))])
            continue
        rows, scale = torch.stack(filled(one.rows(), keep)), call.scale or 1.0
        if call.transforms:
            rows = transformed(call, leaf, one, keep)[0].reshape(rows.shape) * scale
        bundle = Bundle([call.names[i] for i in keep], {call.block_name(leaf): rows})
        with torch.no_grad():
            (direction,) = bundle.map(call.rule, scale=scale).values()
        if call.scale is None and not all_finite(direction):
            raise ValueError(
                f"{type(call.rule).__name__} gave a direction that is not finite for finite rows"
            )
        yield leaf, direction


def _combined(call: Call, leaves: Sequence[Tensor], weights: Tensor, collected: Collected) -> Gradients:
    """The weighted sum for some parameters: from what is held, else by one more backward pass."""
    numbers = weights.tolist()
    held = collected.held
    found = {leaf: held[leaf].combine(numbers) for leaf in leaves if leaf in held}
    late = [leaf for leaf in leaves if leaf in collected.reached and leaf not in held]
    return found | weighted_pass(call, late, numbers, retain=call.retain_graph or call.verify)


def weighted_pass(
    call: Call, leaves: Sequence[Tensor], weights: Sequence[float], *, retain: bool
) -> Gradients:
    """The weighted sum of the gradients of some parameters, by one backward pass over all losses."""
    used = [i for i, weight in enumerate(weights) if weight != 0]
    if not leaves or not used:
        return {leaf: torch.zeros_like(leaf, requires_grad=False) for leaf in leaves}
    losses = [call.losses[i] for i in used]
    seeds = [
        loss.new_full((), weights[i] * (call.scale or 1.0)) for i, loss in zip(used, losses, strict=True)
    ]
    found = torch.autograd.grad(losses, leaves, seeds, retain_graph=retain, allow_unused=True)
    pairs = [(leaf, g) for leaf, g in zip(leaves, found, strict=True) if g is not None]
    return {leaf: g if call.world is None else call.world.mean(g) for leaf, g in pairs}


def weights_of_each(call: Call, gramians: Sequence[Tensor], keep: Sequence[int]) -> list[Tensor]:
    """The rule's weights (m,) for each of some Gramians (m, m), by one call of a rule that takes a stack."""
    rule = call.rule
    if len(gramians) == 1 or not isinstance(rule, GramianRule) or not rule.batched or _plain(call, keep):
        groups = call.grouped if len(gramians) > 1 else ("",)
        pairs = zip(gramians, groups, strict=True)
        return [weights_of(call, gramian, keep, (group,) if group else ()) for gramian, group in pairs]
    index = torch.tensor(keep)
    with torch.no_grad():
        found = call.weigh(torch.stack(list(gramians))[:, index[:, None], index], keep, tuple(call.grouped))
    return [_spread(call, weights, keep) for weights in found.to("cpu", torch.float64).unbind()]


def weights_of(
    call: Call, gramian: Tensor, keep: Sequence[int], groups: Sequence[str] = ()
) -> Tensor:  # (m, m) -> (m,)
    """The rule's weights, zero for what is left out."""
    if _plain(call, keep):
        weights = torch.full((len(keep),), 1 / len(keep), dtype=torch.float64)
    else:
        with torch.no_grad():
            found = call.weigh(gramian[list(keep)][:, list(keep)], keep, groups)
        if not isinstance(found, Tensor):
            raise TypeError(
                f"{type(call.rule).__name__} gave {found!r}; its forward gives a tensor of ({len(keep)},)"
            )
        weights = found.to("cpu", torch.float64)
    return _spread(call, weights, keep)


def _spread(call: Call, weights: Tensor, keep: Sequence[int]) -> Tensor:  # (k,) -> (m,)
    """Checked weights with zero for what is left out, the same on every process."""
    _check_weights(call, weights, len(keep))
    full = torch.zeros(len(call.names), dtype=torch.float64)
    full[list(keep)] = weights
    return full if call.world is None else call.world.same(full)


def keep_of(call: Call, bad: Tensor) -> tuple[int, ...] | None:  # (m,) bool
    """The objectives to go on with; None where a GradScaler is to see the overflow."""
    if call.scale is not None and bool(bad.any()):
        return None
    return call.kept(~bad)


def _plain(call: Call, keep: Sequence[int]) -> bool:
    """Whether the policy puts the mean in place of the rule."""
    return call.on_nonfinite == "mean" and len(keep) < len(call.names)


def overflowed(call: Call, private: Private) -> Step:
    """Write infinity, for the GradScaler to find; also where only a loss overflowed, not its gradient."""
    m = len(call.names)
    weights = torch.full((m,), 1 / m, dtype=torch.float64)
    infinite = {leaf: torch.full_like(leaf, float("inf"), requires_grad=False) for leaf in call.shared}
    write(call, infinite, private, range(m), weights)
    return Step(call.names, call.values, weights, preference=call.preference, overflowed=True)


def write(
    call: Call, gradients: Gradients, private: Private, keep: Sequence[int], weights: Tensor | None
) -> None:
    """Add to `.grad` what shared parameters get, and private ones by the caller's choice."""
    for leaf, gradient in gradients.items():
        accumulate(leaf, gradient)
    for leaf, own in private.items():
        for i in filter(own.__contains__, keep):
            factor = 1.0 if weights is None or call.private == "own" else float(weights[i])
            found = own[i] if call.world is None else call.world.mean(own[i])
            accumulate(leaf, found * factor)


def _check_weights(call: Call, weights: Tensor, m: int) -> None:
    name = type(call.rule).__name__
    if weights.shape != (m,):
        raise ValueError(
            f"{name} gave weights of shape {tuple(weights.shape)} for {m} objectives; forward gives ({m},)"
        )
    if not bool(weights.isfinite().all()):
        raise ValueError(f"{name} gave weights that are not finite: {weights.tolist()}")


def shown(gramian: Tensor, keep: Sequence[int]) -> Tensor:  # (m, m) -> (m, m)
    """The Gramian with zero for what was left out."""
    kept = torch.zeros(len(gramian), dtype=torch.bool)
    kept[list(keep)] = True
    return torch.where(kept & kept[:, None], gramian, 0.0)


def shown_layers(
    call: Call, layers: Mapping[str, Tensor], keep: Sequence[int], scale: float | None = None
) -> dict[str, Tensor]:
    """The Gramians of layers in the order of the model, unscaled, with zero for what was left out."""
    names = [*call.named, *call.leaf_names] if call.named else call.leaf_names
    order = dict.fromkeys(map(layer_name, names))
    return {name: shown(layers[name] / (scale or 1.0) ** 2, keep) for name in order if name in layers}


def record(
    call: Call,
    keep: Sequence[int],
    weights: Tensor | None,
    gramian: Tensor | None,
    plan: Plan,
    groups: Mapping[str, Group] | None = None,
    layers: Mapping[str, Tensor] | None = None,
) -> Step:
    """What the caller is told."""
    resolution = max((torch.finfo(leaf.dtype).eps for leaf in call.shared), default=None)
    return Step(
        call.names,
        call.values,
        weights,
        gramian,
        resolution,
        call.skipped(keep),
        call.preference,
        plan,
        groups or {},
        layers=layers or {},
    )
