"""Rows: replies gathered side by side as they come, each written once to where it stays."""

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from equipoise.federated.clientalgorithm import Tensors
from equipoise.federated.engine.task import Replies, Trained

PARTS = ("update", "sent", "kept", "side", "buffers")
LARGE = 2**20
"""Bytes from which memory is used again; asking the system for it anew costs more than writing to it."""


class Memory:
    """Memory of large CPU tensors, given out again once no tensor lies in it any more.

    What a round has not taken again is let go at the next `turn`.
    """

    def __init__(self) -> None:
        self._before: list[np.ndarray] = []
        self._now: list[np.ndarray] = []

    def turn(self) -> None:
        """A round begins."""
        self._before, self._now = self._now, []

    def empty(self, like: Tensor, count: int) -> Tensor:  # (*shape) -> (count, *shape)
        """Room for `count` tensors like this one, not yet written."""
        size = count * like.numel() * like.element_size()
        if size < LARGE or like.device.type != "cpu":
            return like.new_empty(count, *like.shape)
        held = self._free(size)
        self._now.append(held)
        return torch.from_numpy(held).view(like.dtype).view(count, *like.shape)

    def _free(self, size: int) -> np.ndarray:
        for i in range(len(self._before)):
            # the list and the call refer to it; a tensor that lies in it would as well
            if self._before[i].nbytes == size and sys.getrefcount(self._before[i]) <= 2:
                return self._before.pop(i)
        return np.empty(size, dtype=np.uint8)


class Rows:
    """Room for the replies of `names`; as many tensors of m rows as a reply has tensors.

    All replies are of one kind: those of one program, not what came over a network.
    """

    def __init__(self, names: tuple[str, ...], memory: Memory) -> None:
        memory.turn()
        self.names = names
        self._memory = memory
        self._parts: dict[str, Tensors] = {part: {} for part in PARTS}

    def put(self, row: int, one: Trained) -> None:
        """The reply of client `row`."""
        reply = one.reply
        parts = reply.update, reply.sent, reply.kept, one.side, one.buffers
        for part, tensors in zip(PARTS, parts, strict=True):
            for name, tensor in tensors.items():
                room = self._room(part, name, tensor)[row]
                if room.data_ptr() != tensor.data_ptr():
                    room.copy_(tensor)

    def updates(self, row: int, like: Tensors) -> Tensors:
        """Where the update of client `row` goes, to be written there before it is `put`."""
        return {name: self._room("update", name, tensor)[row] for name, tensor in like.items()}

    def place(self, rows: Sequence[int], some: Replies) -> None:
        """The replies of the clients of these rows."""
        for part in PARTS:
            held: Tensors = getattr(some, part)
            for name, tensor in held.items():
                index = torch.tensor(rows, device=tensor.device)
                self._room(part, name, tensor[0]).index_copy_(0, index, tensor)

    def replies(self) -> Replies:
        """All of them, once every row is there."""
        return Replies(self.names, *(self._parts[part] for part in PARTS))

    def _room(self, part: str, name: str, one: Tensor) -> Tensor:
        held = self._parts[part]
        if name not in held:
            held[name] = self._memory.empty(one.detach(), len(self.names))
        return held[name]
