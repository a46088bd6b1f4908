"""From losses to what is held of their directions: one backward pass for each objective."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

import torch
from torch import Tensor

from equipoise.core.call import Call, finite
from equipoise.core.faults import explained
from equipoise.core.ghost.arrivals import Arrivals
from equipoise.core.ghost.embedding import EmbeddingUse
from equipoise.core.ghost.use import FactoredUse
from equipoise.core.gramian import EXACT, keeps_digits
from equipoise.core.held import Dense, Factored, Held, Touched, scatter, side_by_side
from equipoise.core.persample import sample_sweep
from equipoise.core.plan import Choice, Share

Private = dict[Tensor, dict[int, Tensor]]
"""A leaf of one objective -> index of a loss of that -> its gradient."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Collected:
    """What the passes over some shares brought.

    `gramians` has one (m, m) for each group of parameters, float64 on the CPU, and `layers` one for each
    layer where an observer asks for them. `held` are the directions still at hand; what is in `reached`
    alone had directions that were let go. `bytes` is the most that was held.
    """

    gramians: dict[str, Tensor]
    held: dict[Tensor, Held] = field(default_factory=dict)
    reached: set[Tensor] = field(default_factory=set)
    private: Private = field(default_factory=dict)
    bytes: int = 0
    layers: dict[str, Tensor] = field(default_factory=dict)

    @property
    def gramian(self) -> Tensor:  # -> (m, m)
        """The Gramian over all parameters."""
        return torch.stack([*self.gramians.values()]).sum(0)


def collect(
    call: Call, shares: Sequence[Share], *, retain: bool, release: bool, private: bool = True
) -> Collected:
    """Go through the objectives once for each share, and through their private parameters the first time.

    With `release`, what is held of a share is let go before the next; the last stays at hand. `retain` keeps
    the graph after the last pass.
    """
    m = len(call.losses)
    found = Collected({group: torch.zeros(m, m, dtype=torch.float64) for group in call.grouped})
    for position, share in enumerate(shares):
        last = position == len(shares) - 1
        if release:
            found.held.clear()
        owned = call.owned if private and position == 0 else []
        if share.rows is None:
            held = _gone_through(call, share.choices, owned, found.private, retain=retain or not last)
            if call.world is not None:
                held = {leaf: call.world.reduce(one) for leaf, one in held.items()}
            found.held |= held
            found.reached |= held.keys()
            add_gramians(call, held, found)
        else:
            if owned:
                sweep(call, (), owned, found.private, retain=True)
            leaf = share.choices[0].leaf
            part = by_pairs(call, leaf, share.rows)
            found.gramians[call.group_of[leaf]] += part
            if call.layer_of is not None:
                add(found.layers, call.layer_of[leaf], part)
            found.reached.add(leaf)
            found.bytes = max(found.bytes, (share.rows + 1) * leaf.nbytes)
        found.bytes = max(found.bytes, sum(one.bytes() for one in found.held.values()))
    return found


def _gone_through(
    call: Call, choices: Sequence[Choice], private: Sequence[Tensor], own: Private, *, retain: bool
) -> dict[Tensor, Held]:
    """What is held of some parameters: of all samples at once where that was chosen, else by objective."""
    at_once = [choice for choice in choices if choice.form == "samples"]
    others = [choice for choice in choices if choice.form != "samples"]
    held = sample_sweep(call, at_once, retain=retain or bool(others or private)) if at_once else {}
    return held | (sweep(call, others, private, own, retain=retain) if others or private else {})


def sweep(
    call: Call, choices: Sequence[Choice], private: Sequence[Tensor], own: Private, *, retain: bool
) -> dict[Tensor, Held]:
    """One backward pass for each objective: towards gradients, or towards the outputs of layers.

    Gradients of private parameters are put into `own`. Only the last pass frees the graph.
    """
    m = len(call.losses)
    targets = [(choice.leaf, target) for choice in choices for target in choice.targets]
    sketches = [choice.sketch for choice in choices for _ in choice.targets]
    found: list[list[Tensor | None]] = [[None] * m for _ in targets]
    with Arrivals([target for _, target in targets]) as arrivals:
        for i in range(m):
            wanted = [k for k, (leaf, _) in enumerate(targets) if call.reached[leaf] >> i & 1]
            mine = [leaf for leaf in private if call.reached[leaf] >> i & 1]
            to = [*(targets[k][1] for k in wanted), *mine]
            gradients = differentiate(call, i, to, retain=retain or i < m - 1)
            for k, gradient in zip(wanted, arrivals.settled(gradients[: len(wanted)], wanted), strict=True):
                sketch = sketches[k]
                found[k][i] = gradient if gradient is None or sketch is None else sketch(gradient)
            for leaf, gradient in zip(mine, gradients[len(wanted) :], strict=True):
                if gradient is not None:
                    own.setdefault(leaf, {})[i] = gradient
    rows = iter(found)
    held = {choice.leaf: hold(choice, [next(rows) for _ in choice.targets]) for choice in choices}
    return {leaf: one for leaf, one in held.items() if one is not None}


def hold(choice: Choice, found: Sequence[Sequence[Tensor | None]]) -> Held | None:
    """What came for one parameter, in its form; None where no gradient came at all."""
    if all(d is None for place in found for d in place):
        return None
    match choice.form:
        case "ghost":
            used = [k for k, place in enumerate(found) if any(d is not None for d in place)]
            uses = cast("list[FactoredUse]", [choice.uses[k] for k in used])
            return Factored(uses, [found[k] for k in used], choice.leaf)
        case "touched":
            return Touched.of(cast("list[EmbeddingUse]", choice.uses), found, choice.leaf)
    return Dense(found[0])


def differentiate(call: Call, i: int, targets: Sequence, *, retain: bool) -> Sequence[Tensor | None]:
    """The gradients of one loss, times the factor of the GradScaler."""
    if not targets:
        return ()
    loss = call.losses[i]
    seed = torch.full_like(loss, call.scale or 1.0)
    with explained([call.names[i]]):
        return torch.autograd.grad(loss, targets, seed, retain_graph=retain, allow_unused=True)


def add_gramians(call: Call, held: Mapping[Tensor, Held], found: Collected) -> None:
    """Add the Gramians of what is held to those found, of groups, and of layers where they are asked for."""
    m = len(call.names)
    if call.layer_of is None:
        for group, part in gramians(held, call.group_of, m).items():
            add(found.gramians, group, part)
        return
    pieces = {leaf: (call.group_of[leaf], call.layer_of[leaf]) for leaf in held}
    for (group, layer), part in gramians(held, pieces, m).items():
        add(found.gramians, group, part)
        add(found.layers, layer, part)


def add(sums: dict[str, Tensor], name: str, part: Tensor) -> None:
    """Add to the sum of this name, which may be the first."""
    sums[name] = sums[name] + part if name in sums else part


def gramians(held: Mapping[Tensor, Held], group_of: Mapping[Tensor, Key], m: int) -> dict[Key, Tensor]:
    """The Gramian (m, m) of each group on the CPU; one transfer for each device.

    What came out in a range where float32 loses digits is multiplied again in float64.
    """
    found: dict[Key, Tensor] = {}
    pieces = _pieces(held, group_of, m)
    parts = [one.gramian(m) for _, one in pieces]
    for device in dict.fromkeys(part.device for part in parts):
        there = [k for k, part in enumerate(parts) if part.device == device]
        for k, part in zip(there, torch.stack([parts[k] for k in there]).cpu().unbind(), strict=True):
            group, one = pieces[k]
            if not keeps_digits(part.diagonal()):
                part = one.gramian(m, exact=True).cpu()
            found[group] = found[group] + part if group in found else part
    return found


def _pieces(held: Mapping[Tensor, Held], group_of: Mapping[Tensor, Key], m: int) -> list[tuple[Key, Held]]:
    """What to multiply on its own, with its group; small blocks of one kind are put together."""
    pieces: list[tuple[Key, Held]] = []
    small: dict[tuple, list[Dense]] = {}
    for leaf, one in held.items():
        if isinstance(one, Dense) and m * leaf.numel() <= EXACT:
            small.setdefault((group_of[leaf], leaf.device, leaf.dtype), []).append(one)
        else:
            pieces.append((group_of[leaf], one))
    return pieces + [(group, side_by_side(blocks)) for (group, _, _), blocks in small.items()]


def by_pairs(call: Call, leaf: Tensor, rows: int) -> Tensor:  # -> (m, m)
    """The Gramian of one parameter with `rows` of its directions held at a time.

    Each chunk of objectives meets all that come after it, one at a time. The graph stays.
    """
    m = len(call.losses)
    gramian = torch.zeros(m, m, dtype=torch.float64)
    for start in range(0, m, rows):
        chunk = range(start, min(start + rows, m))
        held = [(i, row) for i in chunk if (row := _row(call, i, leaf)) is not None]
        if not held:
            continue
        (inner,) = gramians({leaf: Dense([row for _, row in held])}, call.group_of, len(held)).values()
        gramian += scatter(inner, [i for i, _ in held], m)
        for j in range(chunk.stop, m):
            row = _row(call, j, leaf)
            if row is not None:
                for i, one in held:
                    gramian[i, j] = gramian[j, i] = _inner(one, row)
    return gramian


def _row(call: Call, i: int, leaf: Tensor) -> Tensor | None:
    found = differentiate(call, i, [leaf] if call.reached[leaf] >> i & 1 else [], retain=True)
    row = found[0] if found else None
    return row if row is None or call.world is None else call.world.mean(row)


def _inner(one: Tensor, other: Tensor) -> Tensor:
    pair = Dense([one, other])
    found = pair.gramian(2)
    return (found if keeps_digits(found.diagonal()) else pair.gramian(2, exact=True))[0, 1].cpu()


def faulty(call: Call, gramian: Tensor, private: Private) -> Tensor:  # (m, m) -> (m,) bool
    """Which objectives have a loss or a direction that is not finite."""
    bad = ~(gramian.diagonal().isfinite() & call.values.isfinite())
    own = [(i, finite(gradient)) for gradients in private.values() for i, gradient in gradients.items()]
    if own:  # one transfer, whatever the number of parameters
        flags = torch.stack([flag.to(own[0][1].device) for _, flag in own]).tolist()
        for (i, _), good in zip(own, flags, strict=True):
            bad[i] |= not good
    return bad if call.world is None else call.world.any(bad)
