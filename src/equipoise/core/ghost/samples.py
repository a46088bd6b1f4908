"""One direction for each sample, from one backward pass over all of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core.ghost.embedding import EmbeddingUse
from equipoise.core.ghost.reduced import ReducedUse
from equipoise.core.ghost.use import FactoredUse, Use
from equipoise.core.gramian import product, wide
from equipoise.core.held import Held

Block = tuple[Tensor, Tensor]
"""The two sides of rows P (g, n, p) and Q (g, n, q): row r adds the outer product of P_r and Q_r."""


class Samples(Held):
    """The output gradients of all uses of a parameter, rows of one sample next to each other.

    Inner products of two samples sum over pairs of their rows: (P P') * (Q Q') for products, one of
    which is one-hot for a look-up table. Or the rows are formed, where that is cheaper.
    """

    def __init__(self, uses: Sequence[Use], found: Sequence[Tensor], like: Tensor, samples: int) -> None:
        self.uses = uses
        self.found = found
        self.like = like
        self.samples = samples

    def gramian(self, m: int, exact: bool = False) -> Tensor:  # -> (m, m)
        dtype = torch.float64 if exact else wide(self.like.dtype)
        if pairwise(self.uses, self.samples, self.like.numel()):
            return self._by_pairs(dtype)
        rows = self._by_sample().flatten(1).to(dtype)
        return product(rows, rows, dtype)

    def combine(self, weights: Sequence[float]) -> Tensor:  # (m,) -> shape
        total: Tensor | None = None
        for use, d in zip(self.uses, self.found, strict=True):
            w = torch.tensor(weights, dtype=wide(d.dtype), device=d.device)
            places = d.shape[0] // self.samples
            w = w.repeat(places) if use.places_first else w.repeat_interleave(places)
            kept = (w != 0).view(-1, *(1,) * (d.dim() - 1))
            part = use.gradient(torch.where(kept, d * w.view_as(kept).to(d.dtype), 0.0))
            total = part if total is None else total + part
        assert total is not None
        return total.to(self.like)

    def row(self, i: int) -> Tensor | None:
        return self.combine([float(i == j) for j in range(self.samples)])

    def rows(self) -> list[Tensor | None]:  # -> m of shape
        return list(self._by_sample().to(self.like).unbind())

    def times(self, factor: float) -> "Samples":
        return Samples(self.uses, [d * factor for d in self.found], self.like, self.samples)

    def bytes(self) -> int:
        return sum(d.nbytes for d in self.found)

    def _by_sample(self) -> Tensor:  # -> (m, *shape)
        total: Tensor | None = None
        for use, d in zip(self.uses, self.found, strict=True):
            part = by_sample(use, d, self.samples, self.like)
            total = part if total is None else total + part
        assert total is not None
        return total

    def _by_pairs(self, dtype: torch.dtype) -> Tensor:  # -> (m, m)
        total = torch.zeros(self.samples, self.samples, dtype=torch.float64, device=self.like.device)
        for j, (left, d) in enumerate(zip(self.uses, self.found, strict=True)):
            for other, e in list(zip(self.uses, self.found, strict=True))[j:]:
                pairs = _products(left, d.to(dtype), other, e.to(dtype))
                part = samples_of(left, pairs, self.samples).sum(1, dtype=torch.float64)
                part = samples_of(other, part.T, self.samples).sum(1).T
                total += part if other is left else part + part.T
        return total


def samples_of(use: Use, rows: Tensor, samples: int) -> Tensor:  # (n, *s) -> (samples, places, *s)
    """Rows in the order of the first axis of a use's output, those of one sample next to each other."""
    if use.places_first:
        return rows.unflatten(0, (-1, samples)).transpose(0, 1)
    return rows.unflatten(0, (samples, -1))


def pairwise(uses: Sequence[Use], samples: int, size: int) -> bool:
    """Whether inner products over pairs of rows cost less than one gradient for each sample."""
    known = [use for use in uses if isinstance(use, FactoredUse | EmbeddingUse)]
    if len(known) < len(uses):
        return False
    if any(isinstance(use, FactoredUse) and use.groups > 1 for use in known):
        return len(uses) == 1
    n = sum(_length(use) for use in known)
    wide_side = sum(use.a + use.o if isinstance(use, FactoredUse) else use.width for use in known)
    return n * n * wide_side / len(known) <= n * size + samples * samples * size


def _length(use: FactoredUse | EmbeddingUse) -> int:
    return use.n if isinstance(use, FactoredUse) else len(use.all_index)


def _products(left: Use, d: Tensor, right: Use, e: Tensor) -> Tensor:  # -> (n, k)
    """Inner products of what each row of one use adds with what each row of another adds."""
    match left, right:
        case FactoredUse(), FactoredUse():
            p, q = _sides(left, d)
            r, s = _sides(right, e)
            return ((p @ r.mT) * (q @ s.mT)).sum(0)
        case EmbeddingUse(), EmbeddingUse():
            same = (left.all_index[:, None] == right.all_index) & (left.counts[:, None] & right.counts)
            return (d.flatten(0, -2) @ e.flatten(0, -2).T) * same
        case FactoredUse(), EmbeddingUse():
            p, q = _sides(left, d)
            return p[0][:, right.all_index] * right.counts * (q[0] @ e.flatten(0, -2).T)
        case EmbeddingUse(), FactoredUse():
            return _products(right, e, left, d).T
    raise TypeError(f"no products of {type(left).__name__} and {type(right).__name__}")


def _sides(use: FactoredUse, d: Tensor) -> Block:
    """P and Q such that the parameter's gradient is P'Q, row by row."""
    left, right = use.left().to(d.dtype), use.right([d])[:, :, 0]
    return (right, left) if use.transposed else (left, right)


def by_sample(use: Use, d: Tensor, samples: int, like: Tensor) -> Tensor:  # (*out) -> (samples, *shape)
    """One gradient of the parameter for each sample."""
    match use:
        case FactoredUse():
            left, right = use.left().to(d.dtype), use.right([d])[:, :, 0]  # (g, n, a), (g, n, o)
            left = samples_of(use, left.transpose(0, 1), samples).transpose(1, 2)  # (samples, g, t, a)
            right = samples_of(use, right.transpose(0, 1), samples).transpose(1, 2)
            return use.matrix(right.mT @ left)
        case EmbeddingUse():
            rows = d.new_zeros(samples, *like.shape)
            index = samples_of(use, use.all_index, samples)
            values = samples_of(use, d.reshape(-1, use.width) * use.counts[:, None], samples)
            where = torch.arange(samples, device=d.device)[:, None].expand_as(index)
            return rows.index_put_((where, index), values, accumulate=True)
        case ReducedUse():
            return use.by_sample(d, lambda rows: samples_of(use, rows, samples))
    raise TypeError(f"{type(use).__name__} has no gradient for a sample")


def separable(uses: Sequence[Use], samples: int) -> bool:
    """Whether the first axis of every use's output can be samples, or samples times places."""
    if not uses or any(not use.out or use.out[0] == 0 or use.out[0] % samples for use in uses):
        return False
    return all(not isinstance(use, ReducedUse) or use.placed[:1] == (1,) for use in uses)
