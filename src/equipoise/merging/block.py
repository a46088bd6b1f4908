"""Block: one tensor of the merged model as its sources hold it, read part by part."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TypeVar

import torch
from torch import Tensor

from equipoise.core.errors import NonFiniteDirection
from equipoise.merging.source import Source

CHUNK = 1 << 16
"""Elements of a part: small enough that the rows of a few models stay in the cache of a processor."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Block:
    """One tensor of the merged model: m models hold it, perhaps under other names, and so may the base.

    `names` are the m models in it; a model that lacks the tensor is not among them. `dtype` is that of the
    arithmetic, float32 or float64, whatever is stored. `layer` is the number of the layer that the tensor
    belongs to, of `layers` in all; None outside of them (embeddings, heads). `statistics` are what was
    measured of each model's inputs or gradients for this tensor, where the rule asks for any.
    """

    name: str
    shape: torch.Size
    names: tuple[str, ...]
    sources: tuple[Source, ...]
    origin: Source | None = None
    dtype: torch.dtype = torch.float32
    layer: int | None = None
    layers: int = 0
    statistics: tuple[Source, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def numel(self) -> int:
        """The number of elements of the tensor."""
        return prod(self.shape)

    def parts(self, *, by_row: bool = False) -> Iterator["Part"]:
        """All elements in flat parts of `CHUNK`, or of as many whole rows (of the last axis) as fit.

        The parts are the same in every run, whatever the threads.
        """
        width = self.shape[-1] if by_row and self.shape and self.shape[-1] else 1
        size = max(1, CHUNK // width) * width
        for start in range(0, self.numel, size):
            stop = min(start + size, self.numel)
            yield Part(self, start, stop, torch.Size([stop - start]))

    def whole(self) -> "Part":
        """All elements at once, in the tensor's shape."""
        return Part(self, 0, self.numel, self.shape)


@dataclass(frozen=True)
class Part:
    """Elements `start` to `stop` of a block, of shape `shape`: flat, or the tensor's own for the whole.

    `rows`, `base` and `deltas` are read once, when first asked for, in the dtype of the arithmetic; a rule
    may write into what it was given. Raises NonFiniteDirection naming model, file and
    tensor where values are not finite.
    """

    block: Block
    start: int
    stop: int
    shape: torch.Size

    @property
    def names(self) -> tuple[str, ...]:
        """The m models."""
        return self.block.names

    @cached_property
    def base(self) -> Tensor:  # -> shape
        """The base's values. Raises ValueError where there is no base."""
        origin = self.block.origin
        if origin is None:
            raise ValueError(f"tensor {self.block.name!r}: this method needs a base, and none is given")
        values = self._read(origin).to(self.block.dtype, copy=True)
        if not finite(values):
            raise NonFiniteDirection(self.names, f"{origin} (the base) holds NaN or infinity")
        return values

    @cached_property
    def rows(self) -> Tensor:  # -> (m, *shape)
        """The models' values."""
        rows = torch.empty(len(self.block), *self.shape, dtype=self.block.dtype)
        for row, source in zip(rows, self.block.sources, strict=True):
            row.copy_(self._read(source))
        if not finite(rows):
            for row, name, source in zip(rows, self.names, self.block.sources, strict=True):
                if not finite(row):
                    raise NonFiniteDirection([name], f"{source} holds NaN or infinity")
        return rows

    @cached_property
    def deltas(self) -> Tensor:  # -> (m, *shape)
        """The task vectors: the models' values less the base's."""
        if "rows" in self.__dict__:
            return self.rows - self.base
        deltas = self.rows
        del self.__dict__["rows"]
        return deltas.sub_(self.base)

    def statistics(self) -> Iterator[Tensor]:  # -> m times shape, or their own shape
        """What was measured of each model, one after the other, in the dtype in which it is stored.

        This part of it where it has the tensor's shape, else the whole.
        """
        for source in self.block.statistics:
            if source.shape == self.block.shape:
                yield self._read(source)
            else:
                yield source.checkpoint[source.tensor].detach().cpu()

    def _read(self, source: Source) -> Tensor:
        return source.part(self.start, self.stop).view(self.shape)


class Blocks(Sequence[Block]):
    """The blocks that one rule merges; `map` goes through them with as many threads as the run has."""

    def __init__(self, blocks: Sequence[Block], threads: int = 1) -> None:
        self._blocks = tuple(blocks)
        self.threads = threads

    def __getitem__(self, index):  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._blocks[index]

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def names(self) -> tuple[str, ...]:
        """All models, in the order in which they are met."""
        return tuple(dict.fromkeys(name for block in self._blocks for name in block.names))

    def map(self, function: Callable[[Block], Result]) -> Iterator[Result]:
        """`function` of every block, in their order."""
        if self.threads == 1:
            yield from map(function, self._blocks)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            yield from pool.map(function, self._blocks)


def equal(one: Source, other: Source) -> bool:
    """Whether two tensors of one shape hold equal values, whatever their dtypes; read part by part."""
    numel = prod(one.shape)
    for start in range(0, numel, CHUNK):
        stop = min(start + CHUNK, numel)
        parts = one.part(start, stop), other.part(start, stop)
        if one.dtype != other.dtype:
            parts = parts[0].double(), parts[1].double()
        if not torch.equal(*parts):
            return False
    return True


def finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite; the sum tells at once unless it overflows."""
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())
