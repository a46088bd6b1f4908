"""Exact thresholds within a tensor, by selection: two readings, no sort and no copy of the tensor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf, sqrt
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from equipoise.merging.block import Block, Part
from equipoise.merging.digits import Search, magnitudes

_SLICES, _SLICE = 32, 2048
_SMALL = 1 << 18

Values = Callable[[Part], Tensor]
"""Numbers without sign of a part, (r, k): r streams of numbers."""


class Threshold(NamedTuple):
    """What bounds the kept elements from below: all greater ones are kept, and equal ones before `stop`."""

    value: float
    stop: int


ALL, NONE = Threshold(0.0, 0), Threshold(inf, 0)


def kept(density: float, numel: int) -> int:
    """How many of `numel` elements make up the share `density`: rounded down, but at least one of any.

    >>> kept(0.2, 24), kept(0.001, 24), kept(0.0, 24)
    (4, 1, 0)
    """
    return max(1, int(density * numel)) if density > 0 and numel else 0


def thresholds(
    block: Block, ranks: Sequence[Sequence[int]], *, exact: bool = True, values: Values = magnitudes
) -> list[list[Threshold]]:
    """For each stream of a block, the thresholds that keep so many of its largest numbers.

    `ranks[i]` are the numbers to be kept of stream i; 0 keeps none, the number of elements or more keeps all.
    With `exact` precisely so many are kept, of equal ones those that come first; else all that equal the
    last one are kept too.

    A sample tells between which two numbers the threshold lies, one pass over the tensor collects what lies
    between them and counts what lies above, and selection among the collected gives it. Where it does not lie
    there, or too much does, it is found digit by digit.
    """
    found = [[NONE if not rank else ALL if rank >= block.numel else None for rank in row] for row in ranks]
    open_ = [(i, j) for i, row in enumerate(found) for j, threshold in enumerate(row) if threshold is None]
    brackets = {place: _Bracket(ranks[place[0]][place[1]]) for place in open_}
    if block.numel > _SMALL and open_:
        sample = np.sort(np.concatenate([values(part).numpy() for part in _slices(block)], axis=1))
        for (i, _), bracket in brackets.items():
            bracket.narrow(sample[i], block.numel)
    _collect(block, brackets, values)
    missed = {place: bracket for place, bracket in brackets.items() if bracket.missed}
    if missed:
        _by_digits(block, missed, values)
        _collect(block, missed, values)
    for (i, j), bracket in brackets.items():
        value = bracket.value()
        found[i][j] = Threshold(value, bracket.stop(value, block, i, values) if exact else block.numel)
    return [[threshold for threshold in row if threshold is not None] for row in found]


def trim(part: Part, rows: Tensor, found: Sequence[Threshold]) -> Tensor:  # (m, *shape) -> (m, *shape)
    """Set to zero, in place, what lies below the threshold of its row."""
    for row, (value, stop) in zip(rows.view(len(rows), -1), found, strict=True):
        if not value:
            continue
        head = min(max(stop - part.start, 0), len(row))
        if head:
            below = float(torch.nextafter(row.new_tensor(value), row.new_tensor(0.0)))
            torch.ops.aten.hardshrink.out(row[:head], below, out=row[:head])
        if head < len(row):
            torch.ops.aten.hardshrink.out(row[head:], value, out=row[head:])
    return rows


class _Taken(NamedTuple):
    """What a part holds of a bracket: how many equal its ends, and the numbers within."""

    start: int
    at_high: int
    within: np.ndarray
    at_low: int


@dataclass(eq=False)
class _Bracket:
    """The number of rank `rank` is looked for from `low` to `high`."""

    rank: int
    low: float = 0.0
    high: float = inf
    limit: float = inf
    above: int = 0
    at_high: int = 0
    within: int = 0
    at_low: int = 0
    taken: list[_Taken] = field(default_factory=list)

    @property
    def missed(self) -> bool:
        """Whether the number does not lie there, or too much does."""
        reached = self.above + self.at_high + self.within + self.at_low
        return self.within > self.limit or not self.above < self.rank <= reached

    def narrow(self, sample: np.ndarray, numel: int) -> None:
        """Expect the number where it lies in an ordered sample, give or take six standard deviations."""
        share, size = self.rank / numel, len(sample)
        around = size * (1 - share)
        reach = 6 * sqrt(size * share * (1 - share)) + 2
        first, last = int(around - reach), int(around + reach) + 1
        self.low = float(sample[first]) if first >= 0 else 0.0
        self.high = float(sample[last]) if last < size else inf
        self.limit = numel // 8

    def settle(self, value: float) -> None:
        """Know the number beforehand."""
        self.low = self.high = value
        self.above = self.at_high = self.within = self.at_low = 0
        self.taken = []

    def take(self, row: np.ndarray, start: int) -> None:
        """Count what lies above and at the ends, collect what lies within."""
        low, high = row.dtype.type(self.low), row.dtype.type(self.high)
        above, reach = np.count_nonzero(row > high), row >= high
        at_high = np.count_nonzero(reach) - above
        if low == high:
            within, at_low = _nothing(row), 0
        else:
            inner = row > low
            at_low = np.count_nonzero(row >= low) - np.count_nonzero(inner)
            inner ^= reach
            within = row[inner] if self.within <= self.limit else _nothing(row)
        self.above += int(above)
        self.at_high += int(at_high)
        self.within += within.size
        self.at_low += int(at_low)
        self.taken.append(_Taken(start, int(at_high), within, int(at_low)))

    def value(self) -> float:
        """The number."""
        left = self.rank - self.above - self.at_high
        if left <= 0:
            return self.high
        if left > self.within:
            return self.low
        numbers = np.concatenate([one.within for one in self.taken])
        numbers.partition(self.within - left)
        return float(numbers[self.within - left])

    def stop(self, value: float, block: Block, stream: int, values: Values) -> int:
        """The first element that equals the number and is one too many."""
        left = self.rank - self.above
        if value < self.high:
            left -= self.at_high + sum(int(np.count_nonzero(one.within > value)) for one in self.taken)
        for one in self.taken:
            equal = int(np.count_nonzero(one.within == value))
            equal += one.at_high * (value == self.high)
            equal += one.at_low * (value == self.low != self.high)
            if equal > left:
                part = next(part for part in block.parts() if part.start == one.start)
                row = values(part)[stream].numpy()
                return one.start + int(np.flatnonzero(row == value)[left])
            left -= equal
        return block.numel


def _nothing(row: np.ndarray) -> np.ndarray:
    """No numbers; a view of none of them would keep the row in memory."""
    return np.empty(0, row.dtype)


def _slices(block: Block) -> list[Part]:
    """Short parts, evenly spread."""
    starts = [i * (block.numel - _SLICE) // (_SLICES - 1) for i in range(_SLICES)]
    return [Part(block, start, start + _SLICE, torch.Size([_SLICE])) for start in starts]


def _collect(block: Block, brackets: dict[tuple[int, int], _Bracket], values: Values) -> None:
    for part in block.parts() if brackets else ():
        rows = values(part).numpy()
        for (i, _), bracket in brackets.items():
            bracket.take(rows[i], part.start)


def _by_digits(block: Block, brackets: dict[tuple[int, int], _Bracket], values: Values) -> None:
    searches = {place: Search(bracket.rank, block.dtype) for place, bracket in brackets.items()}
    while not all(search.done for search in searches.values()):
        for part in block.parts():
            rows = values(part).numpy()
            for (i, _), search in searches.items():
                search.count(rows[i])
        for search in searches.values():
            search.narrow()
    for place, bracket in brackets.items():
        bracket.settle(searches[place].value)
