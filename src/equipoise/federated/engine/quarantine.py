"""Which replies are let in: whole, of the right shapes, finite, one from each client that was asked."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from equipoise.federated.clientalgorithm import Tensors
from equipoise.federated.engine.task import Replies, Trained


class NoUpdates(RuntimeError):
    """No reply of a round can be used; the message says why, client by client."""


def admit(
    trained: Sequence[Trained], asked: Sequence[str], parameters: Tensors
) -> tuple[Replies | None, dict[str, str]]:
    """The replies that can be averaged, in the order of `asked`, and why each other client's cannot.

    An update must have the tensors of the model, whole, or none where the algorithm sends something
    else; numbers of examples and steps must be above 0; what is sent besides must be of one kind in all
    replies, and the kind of most counts. The second reply of a client is refused, with the first. None in
    place of replies where nothing is left.
    """
    faults: dict[str, str] = {}
    count = Counter(one.client for one in trained)
    kept: dict[str, Trained] = {}
    for one in trained:
        fault = _fault(one, asked, count[one.client], parameters)
        if fault is None:
            kept[one.client] = one
        else:
            faults[one.client] = fault
    kinds = {name: _kind(one) for name, one in kept.items()}
    usual = Counter(kinds.values()).most_common(1)
    for name in [name for name, kind in kinds.items() if kind != usual[0][0]]:
        faults[name] = "sends other tensors, or of other shapes or types, than most clients"
        del kept[name]
    if not kept:
        return None, faults
    return finite(stacked([kept[name] for name in asked if name in kept]), faults)


def finite(replies: Replies, faults: Mapping[str, str] = {}) -> tuple[Replies | None, dict[str, str]]:
    """The replies without NaN or infinity, and the clients that have one, with the tensor's name."""
    faults, good = dict(faults), torch.ones(len(replies.names), dtype=torch.bool)
    parts = (("update", replies.update), ("sent", replies.sent), ("side", replies.side))
    for what, part in (*parts, ("buffer", replies.buffers)):
        for name, tensor in part.items():
            if not tensor.is_floating_point():
                continue
            rows = torch.isfinite(tensor.reshape(len(tensor), -1).sum(1)).cpu()
            for i in (good & ~rows).nonzero().flatten().tolist():
                if not bool(tensor[i].isfinite().all()):
                    good[i] = False
                    faults[replies.names[i]] = f"{what} {name!r} is not finite"
    if bool(good.all()):
        return replies, faults
    rows = good.nonzero().flatten()
    return (replies.take(rows) if len(rows) else None), faults


def stacked(trained: Sequence[Trained]) -> Replies:
    """Replies of one kind, side by side."""

    def side_by_side(parts: Sequence[Tensors]) -> Tensors:
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}

    return Replies(
        tuple(one.client for one in trained),
        side_by_side([one.reply.update for one in trained]),
        side_by_side([one.reply.sent for one in trained]),
        side_by_side([one.reply.kept for one in trained]),
        side_by_side([one.side for one in trained]),
        side_by_side([one.buffers for one in trained]),
    )


def _fault(one: Trained, asked: Sequence[str], count: int, parameters: Tensors) -> str | None:
    if one.client not in asked:
        return "was not asked in this round"
    if count > 1:
        return f"replied {count} times"
    update = one.reply.update
    if update:
        missing = [name for name in parameters if name not in update]
        strange = [name for name in update if name not in parameters]
        if missing or strange:
            return (
                f"update lacks {missing} and has {strange} besides" if strange else f"update lacks {missing}"
            )
        for name, tensor in parameters.items():
            if update[name].shape != tensor.shape:
                return f"update {name!r} has shape {tuple(update[name].shape)}, not {tuple(tensor.shape)}"
            if not update[name].is_floating_point():
                return f"update {name!r} is {update[name].dtype}, not floating point"
    for name in ("samples", "steps"):
        if name in one.side and not bool((one.side[name] > 0).all()):
            return f"says that its {name} are {one.side[name].tolist()}"
    return None


def _kind(one: Trained) -> tuple[object, ...]:
    def of(part: Mapping[str, Tensor]) -> tuple[object, ...]:
        return tuple(sorted((name, tuple(t.shape), str(t.dtype)) for name, t in part.items()))

    return of(one.reply.update), of(one.reply.sent), of(one.side), of(one.buffers)
