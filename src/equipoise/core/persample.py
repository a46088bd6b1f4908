"""The m losses of m samples in one backward pass, where the model keeps samples apart."""

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core.call import Call
from equipoise.core.faults import explained
from equipoise.core.ghost.arrivals import Arrivals
from equipoise.core.ghost.samples import Samples, pairwise, separable
from equipoise.core.ghost.use import FactoredUse, Use
from equipoise.core.ghost.uses import uses_of
from equipoise.core.held import Held
from equipoise.core.plan import Choice, Schedule, choose, shared_out

CHECKED = "one pass more has checked which layers keep samples apart"


def sample_schedule(call: Call, whole: bool = False) -> tuple[Schedule, tuple[str, ...]]:
    """A schedule of one pass over all samples where that is exact, and notes on where it is not.

    Parameters under no rule, those of layers whose rows are not samples or samples times places, and those
    where a sample's loss reaches another's rows (BatchNorm in training), are gone through sample by sample.
    """
    m = len(call.names)
    uses = {leaf: uses_of(leaf, call.graph) for leaf in call.shared}
    apart = {leaf: found for leaf, found in uses.items() if found and separable(found, m)}
    mixed = coupled(call, [use for found in apart.values() for use in found]) if m > 1 else set()
    joined = {leaf for leaf, found in apart.items() if any(use in mixed for use in found)}
    choices = [
        _choice(leaf, name, apart[leaf], m)
        if leaf in apart and leaf not in joined
        else choose(leaf, name, call.graph, m)
        for leaf, name in zip(call.shared, call.leaf_names, strict=True)
    ]
    names = [choice.name for choice in choices if choice.leaf in joined]
    notes = (CHECKED,) if apart and m > 1 else ()
    if names:
        notes += (f"samples meet in the layers of {', '.join(names)}: one pass for each sample there",)
    return shared_out(choices, call.shared, m, call.budget, whole), notes


def coupled(call: Call, uses: Sequence[Use]) -> set[Use]:
    """The uses in which the losses of a random half of the samples reach rows of the other half.

    One backward pass. Rows are tried as places of samples, then as samples within places, which is noted in
    the use; a layer whose first axis is something else counts as coupled.
    """
    m = len(call.names)
    if not uses:
        return set()
    order = torch.randperm(m, generator=torch.Generator().manual_seed(m))
    chosen = torch.zeros(m, dtype=torch.bool)
    chosen[order[: m // 2]] = True
    found = _differentiate(call, uses, chosen.to(call.vector), retain=True)
    others = (~chosen).nonzero()[:, 0].to(call.vector.device)
    pairs = [(use, d) for use, d in zip(uses, found, strict=True) if d is not None]
    if not pairs:
        return set()
    outer = [d.unflatten(0, (m, -1)).index_select(0, others).abs().amax().double() for _, d in pairs]
    inner = [d.unflatten(0, (-1, m)).index_select(1, others).abs().amax().double() for _, d in pairs]
    reached = torch.stack([torch.stack(outer), torch.stack(inner)], 1).tolist()
    for (use, _), (samples_first, places_first) in zip(pairs, reached, strict=True):
        use.places_first = samples_first != 0 and places_first == 0
    return {use for (use, _), both in zip(pairs, reached, strict=True) if all(one != 0 for one in both)}


def sample_sweep(call: Call, choices: Sequence[Choice], *, retain: bool) -> dict[Tensor, Held]:
    """The output gradients of all samples, by one backward pass."""
    seeds = torch.full_like(call.vector, call.scale or 1.0)
    flat = [(choice, use) for choice in choices for use in choice.uses]
    found = _differentiate(call, [use for _, use in flat], seeds, retain=retain)
    held: dict[Tensor, tuple[list[Use], list[Tensor]]] = {}
    for (choice, use), d in zip(flat, found, strict=True):
        if d is not None:
            uses, ds = held.setdefault(choice.leaf, ([], []))
            uses.append(use)
            ds.append(d)
    return {leaf: Samples(uses, ds, leaf, len(call.names)) for leaf, (uses, ds) in held.items()}


def _differentiate(
    call: Call, uses: Sequence[Use], seeds: Tensor, *, retain: bool
) -> Sequence[Tensor | None]:
    edges = [use.edge for use in uses]
    with Arrivals(edges) as arrivals:
        with explained(call.names):
            found = torch.autograd.grad(call.vector, edges, seeds, retain_graph=retain, allow_unused=True)
        return arrivals.settled(found, range(len(edges)))


def _choice(leaf: Tensor, name: str, uses: Sequence[Use], m: int) -> Choice:
    """Output gradients of the layer are held, beside them pairs of rows or a gradient for each sample."""
    size = leaf.numel()
    rows = sum(use.out.numel() // max(use.out[-1], 1) for use in uses)
    held = sum(use.out.numel() * use.dtype.itemsize for use in uses)
    width = max(leaf.itemsize, 4)
    if pairwise(uses, m, size):
        inputs = sum(use.n * use.a * use.groups for use in uses if isinstance(use, FactoredUse))
        return Choice(leaf, name, "samples", held, (2 * rows * rows + inputs) * width, rows * size, uses)
    return Choice(leaf, name, "samples", held, m * size * width, rows * size, uses)
