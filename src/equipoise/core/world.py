"""World: the processes that train one model together, each on its share of the batch.

A direction is the mean over processes, as the gradient is under DistributedDataParallel: that of the union of
the batches where all are of one size. The Gramian of a mean is not the mean of Gramians, so directions
are brought together before any inner product is taken.
"""

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from equipoise.core.gramian import wide
from equipoise.core.held import Dense, Factored, Held


class World:
    """A process group of more than one process, and what is agreed in it.

    `traffic` counts the bytes that this process has sent, by the cost of a ring: 2 (r - 1) / r of what is
    summed over r processes, r - 1 shares of what is gathered.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        self.size = dist.get_world_size(group)
        self.traffic = 0

    @classmethod
    def found(cls, group: dist.ProcessGroup | bool | None) -> "World | None":
        """The world of a group; of the default group for None or True; None for one process or False."""
        if group is False or not (dist.is_available() and dist.is_initialized()):
            return None
        world = cls(None if group is None or group is True else group)
        return world if world.size > 1 else None

    def agree(self, names: Sequence[str], reached: Mapping[Tensor, int]) -> None:
        """Raise ValueError on every process where one has other objectives, or other parameters, than
        another."""
        shapes = [(tuple(leaf.shape), str(leaf.dtype), mask) for leaf, mask in reached.items()]
        digest = hashlib.sha256(repr((tuple(names), shapes)).encode()).digest()
        mine = torch.frombuffer(bytearray(digest[:8]), dtype=torch.int64).clone()
        every = self.gather(mine[None])[:, 0].tolist()
        if len(set(every)) > 1:
            usual = max(set(every), key=every.count)
            odd = [str(rank) for rank, one in enumerate(every) if one != usual]
            raise ValueError(
                f"processes {', '.join(odd)} see other objectives or parameters than the others; here they "
                f"are {', '.join(names)} over {len(shapes)} parameters. Every process needs every objective "
                "in every step: give a loss of zero that reaches the same parameters for one that is absent"
            )

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over processes, in float32 at least; the same bits on each."""
        total = tensor.detach().to(wide(tensor.dtype), copy=True).contiguous()
        dist.all_reduce(total, group=self.group)
        self.traffic += 2 * total.nbytes * (self.size - 1) // self.size
        return total

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over processes, in the dtype of the tensor."""
        return (self.sum(tensor) / self.size).to(tensor.dtype)

    def gather(self, tensor: Tensor) -> Tensor:  # (n, *s) -> (size * n, *s)
        """The tensors of all processes, one after the other, of equal shape."""
        mine = tensor.detach().contiguous()
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(parts, mine, group=self.group)
        self.traffic += mine.nbytes * (self.size - 1)
        return torch.cat(parts)

    def any(self, flags: Tensor) -> Tensor:  # (m,) bool -> (m,) bool
        """Where any process has the flag."""
        return self.sum(flags.to(torch.float32)) > 0

    def same(self, tensor: Tensor) -> Tensor:
        """The tensor of the first process, on every process."""
        found = tensor.detach().clone().contiguous()
        first = 0 if self.group is None else dist.get_global_rank(self.group, 0)
        dist.broadcast(found, first, group=self.group)
        return found

    def reduce(self, held: Held) -> Held:
        """What is held, as the mean over processes: rows are summed, or inputs and output gradients are
        gathered where that is less traffic."""
        if isinstance(held, Factored):
            most = int(self.gather(torch.tensor([[held.n]])).max())
            gathered = Gathered(self, held, most)
            if (
                gathered.cost
                <= 2 * sum(row is not None for row in held.rows()) * held.like.nbytes / self.size
            ):
                gathered.gather()
                return gathered
        return Dense([None if row is None else self.mean(row) for row in held.rows()])


def refuse_shards(leaves: Iterable[Tensor]) -> None:
    """Raise RuntimeError for parameters under `fully_shard`, which the graph shows as ordinary tensors."""
    states = sys.modules.get("torch.distributed._composable_state")
    known = {id(leaf) for leaf in leaves}
    for module in list(getattr(states, "_module_state_mapping", ())):
        get = getattr(module, "_get_fsdp_state", None)
        group = None if get is None else getattr(get(), "_fsdp_param_group", None)
        whole = [getattr(one, "_unsharded_param", None) for one in getattr(group, "fsdp_params", ())]
        if any(id(parameter) in known for parameter in whole if parameter is not None):
            raise RuntimeError(
                f"{type(module).__name__} is under fully_shard, which frees and scatters its parameters "
                "during one backward pass where m directions need m; what is missing is a reduction of "
                "directions over shards. Use DistributedDataParallel"
            )


class Gathered(Held):
    """Inputs and output gradients of a layer on every process, for inner products of the mean directions."""

    def __init__(self, world: World, local: Factored, n: int) -> None:
        self.world, self.local, self.n = world, local, n
        self.cost = n * (local.a + len(local.there) * local.o) * local.groups * local.like.itemsize

    def gather(self) -> None:
        """Bring the rows of all processes together; short ones are filled up with zeros."""
        left, right = self.local.factors(wide(self.local.like.dtype))
        missing = self.n - left.shape[1]
        left = torch.nn.functional.pad(left, (0, 0, 0, missing))
        right = torch.nn.functional.pad(right, (0, 0, 0, 0, 0, missing))
        self.left = self.world.gather(left.transpose(0, 1)).transpose(0, 1)  # (g, size n, a)
        self.right = self.world.gather(right.transpose(0, 1)).transpose(0, 1)  # (g, size n, k, o)

    def gramian(self, m: int, exact: bool = False) -> Tensor:  # -> (m, m)
        dtype = torch.float64 if exact else self.left.dtype
        return self.local.inner(self.left.to(dtype), self.right.to(dtype), m) / self.world.size**2

    def combine(self, weights: Sequence[float]) -> Tensor:  # (m,) -> shape
        return self.world.mean(self.local.combine(weights))

    def row(self, i: int) -> Tensor | None:
        row = self.local.row(i)
        return None if row is None else self.world.mean(row)

    def rows(self) -> list[Tensor | None]:
        return [self.row(i) for i in range(self.local.m)]

    def times(self, factor: float) -> Held:
        return Gathered(self.world, self.local.times(factor), self.n)

    def bytes(self) -> int:
        return self.left.nbytes + self.right.nbytes + self.local.bytes()


def averaged(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The means of losses over all processes of the default group, as `backward` takes those of a step; the
    losses themselves where there is one process."""
    world = World.found(None)
    if world is None or not losses:
        return dict(losses)
    means = world.mean(torch.stack([loss.detach() for loss in losses.values()]))
    return dict(zip(losses, means.unbind(), strict=True))
