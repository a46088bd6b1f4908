"""Ranks among all elements of many tensors: bits are counted digit by digit, in constant memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Self

import numpy as np
import torch
from torch import Tensor

from equipoise.merging.block import Block, Blocks, Part

DIGIT = 16
"""Bits that one pass over the numbers settles: two passes for float32, four for float64."""
_PENDING = 1 << 18


def magnitudes(part: Part) -> Tensor:  # -> (m, k)
    """The absolute task vectors of a part, which was read for this alone."""
    return part.deltas.abs_()


def global_values(blocks: Blocks, ranks: Mapping[str, int]) -> dict[str, float]:
    """For each model, the magnitude of this rank (1 is the largest) among all elements of its task vector.

    Exact, in two passes over the models (four where one of them stores float64), whatever their size.
    """
    dtype = torch.float64 if any(block.dtype == torch.float64 for block in blocks) else torch.float32
    searches = {name: Search(rank, dtype) for name, rank in ranks.items()}
    lock = Lock()

    def count(block: Block) -> None:
        own = {name: searches[name].fork() for name in block.names if name in searches}
        for part in block.parts() if own else ():
            for name, row in zip(block.names, magnitudes(part).to(dtype).numpy(), strict=True):
                if name in own:
                    own[name].count(row)
        with lock:
            for name, search in own.items():
                searches[name].add(search)

    while not all(search.done for search in searches.values()):
        for _ in blocks.map(count):
            pass
        for search in searches.values():
            search.narrow()
    return {name: search.value for name, search in searches.items()}


@dataclass(eq=False)
class Search:
    """The search of the number of rank `rank` among non-negative ones, one digit in each pass.

    Non-negative floating point numbers are ordered as their bits are, read as integers; so the leading digit
    of the number is the one at which the count of greater digits reaches the rank, and so on within it.
    """

    rank: int
    dtype: torch.dtype
    prefix: int = 0
    shift: int | None = None
    counts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        if self.shift is None:
            self.shift = 8 * self.dtype.itemsize - DIGIT
        self._clear()

    @property
    def done(self) -> bool:
        """Whether all digits are known."""
        return self._shift < 0

    @property
    def value(self) -> float:
        """The number, once all digits are known."""
        wide = self.dtype == torch.float64
        bits = np.array([self.prefix], np.int64 if wide else np.int32)
        return float(bits.view(np.float64 if wide else np.float32)[0])

    def fork(self) -> Self:
        """A search that has come as far, with counts of its own."""
        return type(self)(self.rank, self.dtype, self.prefix, self.shift)

    def count(self, values: np.ndarray) -> None:
        """Count the next digit of those numbers that agree in the digits found."""
        bits = values.view(np.int32 if values.itemsize == 4 else np.int64).reshape(-1)
        if self._shift + DIGIT < 8 * values.itemsize:
            bits = bits[bits >> (self._shift + DIGIT) == self.prefix]
        self._pending.append((bits >> self._shift).astype(np.uint16))
        self._waiting += bits.size
        if self._waiting >= _PENDING:
            self._flush()

    def add(self, other: "Search") -> None:
        """Take over the counts of a search that has come as far."""
        other._flush()
        self.counts += other.counts

    def narrow(self) -> None:
        """Settle the digit that was counted."""
        self._flush()
        reached = np.cumsum(self.counts[::-1])
        place = int(np.searchsorted(reached, self.rank))
        self.rank -= int(reached[place - 1]) if place else 0
        self.prefix = (self.prefix << DIGIT) | (len(reached) - 1 - place)
        self.shift = self._shift - DIGIT
        self._clear()

    @property
    def _shift(self) -> int:
        assert self.shift is not None
        return self.shift

    def _flush(self) -> None:
        if self._waiting:
            self.counts += np.bincount(np.concatenate(self._pending), minlength=len(self.counts))
        self._pending, self._waiting = [], 0

    def _clear(self) -> None:
        self.counts = np.zeros(1 << DIGIT, np.int64)
        self._pending: list[np.ndarray] = []
        self._waiting = 0
