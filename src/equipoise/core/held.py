"""What is kept of m directions for one parameter, until the weights are known."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core.ghost.embedding import EmbeddingUse, touched
from equipoise.core.ghost.use import FactoredUse
from equipoise.core.gramian import EXACT, WINDOW, product, wide

FEW = 2
"""Directions whose inner products are taken one by one, which is faster than to put them together."""

NARROW = 65_536
"""Columns of one such inner product; the error was below 1e-7 of the largest entry."""

Found = Sequence[Tensor | None]
"""A tensor for each objective, None where an objective does not reach the place."""


class Held(ABC):
    """m directions of one parameter in the form that is cheapest to keep."""

    form = "block"

    @abstractmethod
    def gramian(self, m: int, exact: bool = False) -> Tensor:  # -> (m, m)
        """Inner products, float64 on the device of the parameter; `exact` multiplies in float64."""

    @abstractmethod
    def combine(self, weights: Sequence[float]) -> Tensor:  # (m,) -> shape
        """The weighted sum of the directions, a tensor that belongs to the caller."""

    @abstractmethod
    def row(self, i: int) -> Tensor | None:  # -> shape
        """One direction, None where it is zero."""

    @abstractmethod
    def rows(self) -> list[Tensor | None]:  # -> m of shape
        """All directions, None where one is zero."""

    @abstractmethod
    def times(self, factor: float) -> "Held":
        """The directions times a factor; what this one holds may serve the new one."""

    def plus(self, other: "Held") -> "Held":
        """The sum with other directions of the same parameter; neither serves any more after this."""
        return Dense(_added(self.rows(), other.rows()))

    @abstractmethod
    def bytes(self) -> int:
        """Memory that is held beside the graph."""

    def alone(self) -> int:
        """Memory that is held where the graph is gone."""
        return self.bytes()


class Dense(Held):
    """The directions themselves."""

    def __init__(self, rows: Found) -> None:
        self._rows = [row if row is None or row.layout == torch.strided else row.to_dense() for row in rows]

    def gramian(self, m: int, exact: bool = False) -> Tensor:  # -> (m, m)
        there = [i for i, row in enumerate(self._rows) if row is not None]
        flat = [row.reshape(-1) for row in self._rows if row is not None]
        small = exact or flat[0].numel() * len(flat) <= EXACT
        dtype = torch.float64 if small else wide(flat[0].dtype)
        total = torch.zeros(len(flat), len(flat), dtype=torch.float64, device=flat[0].device)
        few = len(flat) <= FEW and dtype == flat[0].dtype
        width = NARROW if few else WINDOW
        for start in range(0, flat[0].numel(), width):
            window = [row[start : start + width] for row in flat]
            if few:  # no copy: the few inner products, one by one
                total += symmetric([torch.dot(x, y) for i, x in enumerate(window) for y in window[i:]])
            else:
                rows = torch.stack(window)
                total += product(rows, rows, dtype)
        return scatter(total, there, m)

    def combine(self, weights: Sequence[float]) -> Tensor:  # (m,) -> shape
        return weighted(self._rows, weights)

    def row(self, i: int) -> Tensor | None:
        return self._rows[i]

    def rows(self) -> list[Tensor | None]:  # -> m of shape
        return list(self._rows)

    def times(self, factor: float) -> "Dense":
        return Dense([None if row is None else row * factor for row in self._rows])

    def bytes(self) -> int:
        return sum(row.nbytes for row in self._rows if row is not None)


def side_by_side(blocks: Sequence[Dense]) -> Dense:
    """The directions over several parameters as those of one, for what is too small to multiply alone."""
    if len(blocks) == 1:
        return blocks[0]
    likes = [next(row for row in block.rows() if row is not None) for block in blocks]
    rows: list[Tensor | None] = []
    for parts in zip(*(block.rows() for block in blocks), strict=True):
        if all(part is None for part in parts):
            rows.append(None)
            continue
        pairs = zip(parts, likes, strict=True)
        rows.append(
            torch.cat(
                [(torch.zeros_like(like) if part is None else part).reshape(-1) for part, like in pairs]
            )
        )
    return Dense(rows)


class Factored(Held):
    """The output gradients of the layers that use the parameter, beside their inputs in the graph."""

    form = "ghost"

    def __init__(self, uses: Sequence[FactoredUse], found: Sequence[Found], like: Tensor) -> None:
        self.uses = uses
        self.found = found
        self.like = like
        self.groups, self.a, self.o = uses[0].groups, uses[0].a, uses[0].o
        self.n = sum(use.n for use in uses)

    @property
    def m(self) -> int:
        """Number of objectives."""
        return len(self.found[0])

    @property
    def there(self) -> list[int]:
        """The objectives whose direction is not zero."""
        return [i for i in range(self.m) if any(d[i] is not None for d in self.found)]

    def factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:  # -> (g, n, a), (g, n, k, o)
        """Inputs and output gradients of all uses together, for the objectives that are there."""
        there, pairs = self.there, list(zip(self.uses, self.found, strict=True))
        left = [use.left().to(dtype) for use in self.uses]
        right = [use.right(filled(d, there)).to(dtype) for use, d in pairs]
        return (left[0], right[0]) if len(pairs) == 1 else (torch.cat(left, 1), torch.cat(right, 1))

    def inner(self, left: Tensor, right: Tensor, m: int) -> Tensor:  # (g, n, a), (g, n, k, o) -> (m, m)
        """Inner products of the directions, <D_i'A, D_j'A> = <A A' D_i, D_j>, summed over rows in float64."""
        if not left.numel() or not right.numel():  # no sample came to the layer
            return torch.zeros(m, m, dtype=torch.float64, device=left.device)
        size = left.abs().amax().clamp(min=torch.finfo(left.dtype).tiny)
        left = left / size
        mixed = (left @ left.mT) @ right.flatten(2)  # (g, n, k o)
        rows = right.flatten(0, 1)  # (g n, k, o)
        total = torch.bmm(mixed.view_as(right).flatten(0, 1), rows.mT).sum(0, dtype=torch.float64)
        return scatter((total + total.T) * (0.5 * size.double().square()), self.there, m)

    def gramian(self, m: int, exact: bool = False) -> Tensor:  # -> (m, m)
        return self.inner(*self.factors(torch.float64 if exact else wide(self.like.dtype)), m)

    def combine(self, weights: Sequence[float]) -> Tensor:  # (m,) -> shape
        parts = [
            use.gradient(weighted(d, weights, keep=True))
            for use, d in zip(self.uses, self.found, strict=True)
        ]
        return sum_of(parts).to(self.like)

    def row(self, i: int) -> Tensor | None:
        pairs = [(use, d[i]) for use, d in zip(self.uses, self.found, strict=True)]
        parts = [use.gradient(d) for use, d in pairs if d is not None]
        return sum_of(parts).to(self.like) if parts else None

    def rows(self) -> list[Tensor | None]:  # -> m of shape
        return [self.row(i) for i in range(self.m)]

    def times(self, factor: float) -> "Factored":
        found = [[None if d is None else d * factor for d in place] for place in self.found]
        return Factored(self.uses, found, self.like)

    def plus(self, other: Held) -> Held:
        if isinstance(other, Factored) and (self.a, self.o) == (other.a, other.o):
            both = Factored([*self.uses, *other.uses], [*self.found, *other.found], self.like)
            if both.alone() < self.m * self.like.nbytes:
                return both
        return super().plus(other)

    def bytes(self) -> int:
        return sum(d.nbytes for place in self.found for d in place if d is not None)

    def alone(self) -> int:
        return self.bytes() + sum(use.inputs.nbytes for use in self.uses)


class Touched(Held):
    """The rows of a table that the batch looked up, for each objective."""

    form = "touched"

    def __init__(self, index: Tensor, values: Dense, like: Tensor, sparse: bool) -> None:
        """`index` (u,): rows of the table, each once; `values`: (u, width) for each direction."""
        self.index = index
        self.values = values
        self.like = like
        self.sparse = sparse

    @classmethod
    def of(cls, uses: Sequence[EmbeddingUse], found: Sequence[Found], like: Tensor) -> "Touched":
        """Sum up the output gradients (`found`, for each use and objective) over the places of each row."""
        index, inverse = touched(list(uses))
        sides = inverse.split([len(use.index) for use in uses])
        rows: list[Tensor | None] = []
        for place in zip(*found, strict=True):
            looked_up = [
                None if d is None else use.looked_up(d[None])[0] for use, d in zip(uses, place, strict=True)
            ]
            rows.append(_placed(len(index), list(zip(sides, looked_up, strict=True))))
        return cls(index, Dense(rows), like, all(use.sparse for use in uses))

    def gramian(self, m: int, exact: bool = False) -> Tensor:  # -> (m, m)
        return self.values.gramian(m, exact)

    def combine(self, weights: Sequence[float]) -> Tensor:  # (m,) -> shape
        return self._whole(self.values.combine(weights))

    def row(self, i: int) -> Tensor | None:
        values = self.values.row(i)
        return None if values is None else self._whole(values, dense=True)

    def rows(self) -> list[Tensor | None]:  # -> m of shape
        return [self.row(i) for i in range(len(self.values.rows()))]

    def _whole(self, values: Tensor, dense: bool = False) -> Tensor:  # (u, width) -> shape
        values = values.to(self.like.dtype)
        if self.sparse and not dense:
            return torch.sparse_coo_tensor(
                self.index[None], values, self.like.shape, is_coalesced=True, check_invariants=False
            )
        return self.like.new_zeros(self.like.shape).index_copy_(0, self.index, values)

    def times(self, factor: float) -> "Touched":
        return Touched(self.index, self.values.times(factor), self.like, self.sparse)

    def plus(self, other: Held) -> Held:
        if not isinstance(other, Touched):
            return super().plus(other)
        index, inverse = torch.unique(torch.cat([self.index, other.index]), return_inverse=True)
        if len(index) >= len(self.like):
            return super().plus(other)
        sides = inverse.split([len(self.index), len(other.index)])
        pairs = zip(self.values.rows(), other.values.rows(), strict=True)
        rows = [_placed(len(index), list(zip(sides, pair, strict=True))) for pair in pairs]
        return Touched(index, Dense(rows), self.like, self.sparse and other.sparse)

    def bytes(self) -> int:
        return self.values.bytes()


def scatter(gramian: Tensor, there: Sequence[int], m: int) -> Tensor:  # (k, k) -> (m, m)
    """The Gramian of m directions of which only some are not zero."""
    if len(there) == m:
        return gramian
    index = torch.tensor(there, device=gramian.device)
    whole = gramian.new_zeros(m, m)
    whole[index[:, None], index] = gramian
    return whole


def _placed(rows: int, parts: Sequence[tuple[Tensor, Tensor | None]]) -> Tensor | None:  # -> (rows, width)
    """Parts (n, width) summed into the rows that go with them, None where there are none."""
    there = [(where, part) for where, part in parts if part is not None]
    if not there:
        return None
    like = there[0][1]
    total = like.new_zeros(rows, like.shape[1], dtype=wide(like.dtype))
    for where, part in there:
        total.index_add_(0, where, part.to(total.dtype))
    return total


def _added(rows: Sequence[Tensor | None], others: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Sums of rows; the first of each pair is overwritten."""
    pairs = zip(rows, others, strict=True)
    return [one if other is None else other if one is None else one.add_(other) for one, other in pairs]


def symmetric(entries: Sequence[Tensor]) -> Tensor:  # -> (2, 2), or (1, 1)
    """The symmetric matrix of at most two rows with these entries on and above the diagonal."""
    order = [0, 1, 1, 2] if len(entries) == 3 else [0]
    side = 2 if len(entries) == 3 else 1
    return torch.stack([entries[k] for k in order]).view(side, side)


def filled(found: Found, there: Sequence[int]) -> list[Tensor]:
    """The tensors of some objectives, zero where there is none."""
    like = next(d for d in found if d is not None)
    return [torch.zeros_like(like) if (d := found[i]) is None else d for i in there]


def weighted(found: Found, weights: Sequence[float], *, keep: bool = False) -> Tensor:
    """The weighted sum of tensors, computed in float32 at least, in their dtype (`keep`: as computed).

    A weight of zero leaves its tensor out, whatever that holds.
    """
    like = next(d for d in found if d is not None)
    pairs = [(d, w) for d, w in zip(found, weights, strict=True) if d is not None and w != 0]
    if not pairs:
        return torch.zeros_like(like)
    total = pairs[0][0].to(wide(like.dtype)) * pairs[0][1]
    for d, w in pairs[1:]:
        total.add_(d, alpha=w)
    return total if keep else total.to(like.dtype)


def sum_of(parts: Sequence[Tensor]) -> Tensor:
    """The sum of tensors; a single one is given as it is."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
