"""The shape of rules that drop elements of task vectors before they add them up or vote on signs."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipoise.merging.block import Part
from equipoise.merging.mergerule import MergeRule, PerModel, normalized, values_of
from equipoise.merging.signs import agreed, column


@dataclass(frozen=True)
class SparseRule(MergeRule):
    """theta_0 + lambda sum_i w_i s_i, where s_i is what a subclass keeps of the task vector of model i.

    `weight`: w; `density`: the share kept; `scale`: lambda. `votes`: of each element only those models count
    whose sign is that of the weighted sum (positive where it is zero), as in TIES. `normalize`: divide by the
    sum of the weights that count.

    Raises ValueError for shares outside of 0 to 1, and where weights to be normalised sum to zero.
    """

    weight: PerModel = 1.0
    density: PerModel = 0.5
    scale: float = 1.0
    votes: bool = False
    normalize: bool = False

    needs_base = True
    per_model = ("weight", "density")

    def __post_init__(self) -> None:
        check_shares(f"{type(self).__name__}: density", self.density)

    @abstractmethod
    def sparse(self, part: Part, measured: Any) -> Tensor:  # -> (m, *shape)
        """What is kept of the task vectors, the rest zero; may be written into afterwards."""

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        weights = values_of(self.weight, part.names)
        if self.normalize and not self.votes:
            weights = normalized(weights, part.names)
        rows = self.sparse(part, measured)
        rows.mul_(column(weights, rows))
        if self.votes:
            merged = agreed(rows, weights, reduce="mean" if self.normalize else "sum")
        else:
            merged = rows.sum(0)
        return part.base.add_(merged, alpha=self.scale)


def check_shares(option: str, values: PerModel) -> None:
    """Raise ValueError where a share is not from 0 to 1; `option` names it."""
    if isinstance(values, Mapping):
        named = {f"{option} of {name}": value for name, value in values.items()}
    elif isinstance(values, Sequence | Tensor):
        named = {f"{option} number {i}": value for i, value in enumerate(values, 1)}
    else:
        named = {option: values}
    for name, value in named.items():
        if not 0 <= float(value) <= 1:
            raise ValueError(f"{name} is {float(value)}; a share lies between 0 and 1")


def check_rescale(rule: Any) -> None:
    """Raise ValueError where a rule has a `rescale` that there is not."""
    if rule.rescale not in ("paper", "l1"):
        raise ValueError(f"{type(rule).__name__}: rescale is {rule.rescale!r}; it is 'paper' or 'l1'")


def uniform(seed: int, part: Part, name: str) -> Tensor:  # -> part.shape, float32
    """Numbers from 0 to 1 for a model's elements in a part: the same in every run, whatever the threads."""
    first = part.block.sources[0].first + part.start  # of the tensor, of which the block may be some rows
    key = f"{seed}\0{part.block.name}\0{name}\0{first}".encode()
    draw = np.random.Generator(np.random.PCG64(int.from_bytes(blake2b(key, digest_size=16).digest())))
    return torch.from_numpy(draw.random(part.shape, dtype=np.float32))


def drawn(seed: int, part: Part, shares: Tensor) -> Tensor:  # (m, *shape) or alike -> (m, *shape)
    """1 with the probability of `shares`, else 0, for every element of every model."""
    rows = torch.empty(len(part.names), *part.shape, dtype=part.block.dtype)
    for row, name in zip(rows, part.names, strict=True):
        row.copy_(uniform(seed, part, name))
    return torch.from_numpy((rows.numpy() < shares.to(rows.dtype).numpy()).astype(rows.numpy().dtype))


def same_l1(parts: Iterable[tuple[Tensor, Tensor]]) -> Tensor:  # -> (m,) float64
    """The factors that give masked rows the sum of magnitudes that the rows have; 1 where nothing is left."""
    before, after = torch.tensor(0.0), torch.tensor(0.0)
    for rows, mask in parts:
        sizes = rows.abs()
        before = before + sizes.flatten(1).sum(1, dtype=torch.float64)
        after = after + sizes.mul_(mask).flatten(1).sum(1, dtype=torch.float64)
    return torch.where(after > 0, before / after, 1.0)
