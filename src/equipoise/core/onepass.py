"""The route of rules that need no directions: weights first, then one backward pass."""

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core.call import Call, accumulate, all_finite, device_of
from equipoise.core.combine import overflowed, record, weighted_pass, write
from equipoise.core.errors import NonFiniteDirection
from equipoise.core.faults import explained
from equipoise.core.passes import Collected, faulty
from equipoise.core.plan import Plan
from equipoise.core.rule import GramianRule
from equipoise.core.step import Step


def in_one_pass(call: Call) -> Step:
    """Find the weights from the losses alone and differentiate the weighted sum once.

    Under a policy other than "raise" the graph is kept until the gradients are known to be finite, so
    that the objectives at fault can be found and left out.
    """
    finite = call.values.isfinite()
    if call.scale is not None:
        finite = torch.ones_like(finite)
    keep = call.kept(finite)
    call.tell(None, {})
    while True:
        weights, learned = _weights(call, keep)
        before = {leaf: leaf.grad for leaf in call.reached}
        try:
            for leaf in before:
                leaf.grad = None
            with explained([call.names[i] for i in keep]):
                _differentiate(call, keep, weights)
            faulty = [] if call.scale is not None else _faulty(call)
        except BaseException:
            _restore(before)
            raise
        if not faulty:
            break
        _restore(before)
        keep = _without_faulty(call, keep, faulty)
    for leaf, old in before.items():
        fresh, leaf.grad = leaf.grad, old
        if fresh is not None:
            accumulate(leaf, fresh)
    for parameter, gradient in learned:
        accumulate(parameter, gradient)
    full = torch.zeros(len(call.names), dtype=torch.float64)
    full[list(keep)] = weights
    plan = Plan("one pass", 1, traffic=0 if call.world is None else call.world.traffic)
    return Step(
        call.names, call.values, full, skipped=call.skipped(keep), preference=call.preference, plan=plan
    )


def _weights(call: Call, keep: Sequence[int]) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:  # -> (k,)
    """The weights, and the gradients of the rule's own parameters."""
    if call.scale is not None and not bool(call.values.isfinite().all()):
        return torch.full((len(keep),), float("inf"), dtype=torch.float64), []  # for the scaler to skip
    if call.on_nonfinite == "mean" and len(keep) < len(call.names):
        return torch.full((len(keep),), 1 / len(keep), dtype=torch.float64), []
    if isinstance(call.rule, GramianRule):
        return call.weigh(torch.zeros(len(keep), len(keep), dtype=torch.float64), keep), []
    leaf = call.values[list(keep)].to(device_of(call.rule)).requires_grad_()
    with torch.enable_grad():
        scalar = call.weigh(leaf, keep)
    if scalar.numel() != 1:
        raise ValueError(f"{type(call.rule).__name__} gave {tuple(scalar.shape)}, not one loss")
    parameters = [parameter for parameter in call.rule.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(scalar, [leaf, *parameters], allow_unused=True)
    weights = torch.zeros_like(leaf) if found[0] is None else found[0]
    if not bool(weights.isfinite().all()) and call.scale is None:
        bad = [call.names[i] for i, good in zip(keep, weights.isfinite().tolist(), strict=True) if not good]
        raise NonFiniteDirection(bad, f"{type(call.rule).__name__} weighs them so at {call.values.tolist()}")
    scale = call.scale or 1.0
    pairs = zip(parameters, found[1:], strict=True)
    return weights.detach().to("cpu"), [(p, g * scale) for p, g in pairs if g is not None]


def _differentiate(call: Call, keep: Sequence[int], weights: Tensor) -> None:
    """Put the gradients into `.grad`, which is empty."""
    retain = call.retain_graph or call.on_nonfinite != "raise"
    scale = call.scale or 1.0
    if call.world is not None:
        _differentiate_together(call, keep, weights, retain)
        return
    losses = [call.losses[i] for i in keep]
    seeds = [loss.new_full((), float(w) * scale) for loss, w in zip(losses, weights, strict=True)]
    owned, common = (call.owned, call.shared) if call.private == "own" else ([], list(call.reached))
    if common:
        torch.autograd.backward(losses, seeds, retain_graph=retain or bool(owned), inputs=common)
    for position, i in enumerate(keep):
        mine = [leaf for leaf in owned if call.reached[leaf] >> i & 1]
        if mine:
            more = retain or position < len(keep) - 1
            torch.autograd.backward(call.losses[i], losses[position].new_full((), scale), more, inputs=mine)


def _differentiate_together(call: Call, keep: Sequence[int], weights: Tensor, retain: bool) -> None:
    """The same over several processes: means of gradients, without the hooks that would reduce them again."""
    full = torch.zeros(len(call.losses), dtype=torch.float64)
    full[list(keep)] = weights
    owned, common = (call.owned, call.shared) if call.private == "own" else ([], list(call.reached))
    gradients = weighted_pass(call, common, full.tolist(), retain=retain or bool(owned))
    for position, i in enumerate(keep):
        mine = [leaf for leaf in owned if call.reached[leaf] >> i & 1]
        alone = [float(i == j) for j in range(len(call.losses))]
        own = weighted_pass(call, mine, alone, retain=retain or position < len(keep) - 1)
        gradients |= {leaf: g + gradients[leaf] if leaf in gradients else g for leaf, g in own.items()}
    for leaf, gradient in gradients.items():
        leaf.grad = gradient


def _faulty(call: Call) -> list[Tensor]:
    """Leaves whose gradient is not finite; one fused norm, and a closer look where that overflows."""
    leaves = [leaf for leaf in call.reached if leaf.grad is not None]
    dense = [leaf.grad for leaf in leaves if leaf.grad is not None and not leaf.grad.is_sparse]
    if len(dense) == len(leaves) and bool(torch.nn.utils.get_total_norm(dense).isfinite()):
        return []
    return [leaf for leaf in leaves if leaf.grad is not None and not all_finite(leaf.grad)]


def _without_faulty(call: Call, keep: Sequence[int], faulty: Sequence[Tensor]) -> tuple[int, ...]:
    suspects = [i for i in keep if any(call.reached[leaf] >> i & 1 for leaf in faulty)]
    if call.on_nonfinite == "raise":
        raise NonFiniteDirection(
            [call.names[i] for i in suspects],
            "their losses are finite but a gradient that they reach is not; "
            'on_nonfinite="skip" finds out which and goes on without it',
        )
    finite = torch.zeros(len(call.names), dtype=torch.bool)
    for i in keep:
        mine = [leaf for leaf in faulty if call.reached[leaf] >> i & 1]
        found = (
            torch.autograd.grad(call.losses[i], mine, retain_graph=True, allow_unused=True) if mine else ()
        )
        finite[i] = all(all_finite(gradient) for gradient in found if gradient is not None)
    if call.world is not None:
        finite = ~call.world.any(~finite)
    if bool(finite[list(keep)].all()):
        raise NonFiniteDirection(
            [call.names[i] for i in suspects], "each gradient is finite, but their weighted sum overflows"
        )
    return call.kept(finite)


def _restore(before: dict[Tensor, Tensor | None]) -> None:
    for leaf, gradient in before.items():
        leaf.grad = gradient


def weigh_losses(call: Call, found: Collected, plan: Plan) -> Step:
    """The same from directions that are held already: the weights come from the losses alone."""
    gramian = found.gramian / (call.scale or 1.0) ** 2
    bad = faulty(call, gramian, found.private)
    if call.scale is not None and bool(bad.any()):
        return overflowed(call, found.private)
    keep = call.kept(~bad)
    call.tell(None, {})
    weights, learned = _weights(call, keep)
    full = torch.zeros(len(call.names), dtype=torch.float64)
    full[list(keep)] = weights
    gradients = {leaf: one.combine(full.tolist()) for leaf, one in found.held.items()}
    write(call, gradients, found.private, keep, full)
    for parameter, gradient in learned:
        accumulate(parameter, gradient)
    return record(call, keep, full, None, plan)
