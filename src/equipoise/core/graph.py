"""Which leaves each loss reaches, and by which nodes, from the autograd graph."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

VIEWS = frozenset({"TBackward0", "TransposeBackward0", "PermuteBackward0", "ToCopyBackward0"})
"""Nodes that may stand between a parameter and the layer that uses it."""


class User(NamedTuple):
    """A node of the graph that takes a leaf (or a view of it) as its input number `slot`."""

    node: Any
    slot: int


@dataclass(frozen=True, slots=True)
class Graph:
    """The graph behind m losses.

    `reached` maps each leaf to a bit mask of the losses that reach it: bit i stands for `losses[i]`.
    `accumulators` maps a leaf to the node that fills its `.grad`; `users` maps such a node, and a view that
    leads to one, to the nodes that use it. A leaf that is itself a loss has a user too many: None.
    """

    reached: dict[Tensor, int]
    accumulators: dict[Tensor, Any] = field(default_factory=dict)
    users: dict[Any, list[User | None]] = field(default_factory=dict)

    def users_of(self, leaf: Tensor) -> list[User | None]:
        """The nodes that use a leaf."""
        return self.users.get(self.accumulators.get(leaf), [])


def walk(losses: Sequence[Tensor]) -> Graph:
    """Walk once over the union of the graphs of all losses, in topological order.

    The cost is one visit per node and edge whatever the number of losses. Leaves come in the order in
    which a forward pass would mention them, nearly; the order is the same for the same graph.

    Raises RuntimeError for reentrant activation checkpointing, whose parameters the graph does not show.
    """
    masks: dict[Any, int] = {}
    leaves: dict[Tensor, int] = {}
    accumulators: dict[Tensor, Any] = {}
    users: dict[Any, list[User | None]] = {}
    for i, loss in enumerate(losses):
        if loss.grad_fn is not None:
            masks[loss.grad_fn] = masks.get(loss.grad_fn, 0) | 1 << i
        elif loss.requires_grad:
            leaves[loss] = leaves.get(loss, 0) | 1 << i
    ends = {id(loss) for loss in leaves}
    for node in _topological(list(masks)):
        mask = masks[node]
        kind = type(node).__name__
        if kind == "AccumulateGrad":
            leaf = node.variable
            leaves[leaf] = leaves.get(leaf, 0) | mask
            accumulators[leaf] = node
            if id(leaf) in ends:
                users.setdefault(node, []).append(None)
            continue
        if kind == "CheckpointFunctionBackward":
            raise RuntimeError(
                "reentrant activation checkpointing hides its parameters from the graph; use "
                "checkpoint(..., use_reentrant=False)"
            )
        for slot, (child, _) in enumerate(node.next_functions):
            if child is not None:
                masks[child] = masks.get(child, 0) | mask
                name = type(child).__name__
                if name == "AccumulateGrad" or name in VIEWS:
                    users.setdefault(child, []).append(User(node, slot))
    return Graph(dict(reversed(leaves.items())), accumulators, users)


def reach(losses: Sequence[Tensor]) -> dict[Tensor, int]:
    """The leaves that the losses reach, each with a bit mask of the losses that reach it."""
    return walk(losses).reached


def is_shared(mask: int, m: int) -> bool:
    """Whether a leaf that the losses of `mask` reach is shared: by two or more, or by the only one."""
    return mask.bit_count() > 1 or m == 1


def _topological(roots: Iterable[Any]) -> list[Any]:
    """Every node behind the roots, each before those it leads to."""
    order: list[Any] = []
    seen: set[Any] = set()
    stack = [(root, False) for root in roots]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((child, False) for child, _ in node.next_functions if child is not None)
    order.reverse()
    return order
