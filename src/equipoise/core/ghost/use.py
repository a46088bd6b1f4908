"""Use: one place where one parameter meets one layer, read off the autograd graph."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge


class Use(ABC):
    """A node of the graph in which a parameter is used, with what the node saved of the forward pass.

    `edge` is where the gradient D of the layer's output arrives, of shape `out` and `dtype`.
    """

    edge: GradientEdge
    out: torch.Size
    dtype: torch.dtype
    places_first = False  # whether the first axis of the output runs over places, and samples within each

    def __init__(self, node: Any) -> None:
        """Note the output of a node."""
        meta = node._input_metadata[0]
        self.edge = GradientEdge(node, 0)
        self.out = torch.Size(meta.shape)
        self.dtype = meta.dtype
        self.edge_device = torch.device(meta.device)

    @abstractmethod
    def gradient(self, d: Tensor) -> Tensor:  # (*out) -> shape of the parameter
        """The gradient of the parameter in this use, given the gradient of the layer's output."""


class FactoredUse(Use):
    """A use whose gradient is a product: for each of g groups, D'A with A (n, a) and D (n, o).

    `n` rows (samples times places), `a` numbers into and `o` numbers out of the layer in each group.
    """

    inputs: Tensor
    groups: int
    n: int
    a: int
    o: int
    transposed: bool  # whether the parameter is laid out as D'A, not as A'D

    @abstractmethod
    def matrix(self, product: Tensor) -> Tensor:  # (k, groups, o, a) -> (k, shape of the parameter)
        """Products D'A of several places in the layout of the parameter."""

    @abstractmethod
    def left(self) -> Tensor:  # -> (groups, n, a)
        """A, in the dtype of the saved input."""

    @abstractmethod
    def right(self, ds: Sequence[Tensor]) -> Tensor:  # k of (*out) -> (groups, n, k, o)
        """D of k objectives side by side, rows in the order of `left`."""

    @property
    def unfolded(self) -> int:
        """Numbers that `left` has to copy, 0 where it is a view."""
        return 0


def saved(node: Any, name: str) -> Tensor | None:
    """What a node saved under a name; None where a hook stands before it (checkpointing, offloading)."""
    raw = getattr(node, f"_raw_saved_{name}", None)
    if raw is not None and getattr(raw, "unpack_hook", None) is not None:
        return None
    found = getattr(node, f"_saved_{name}", None)
    if not isinstance(found, Tensor) or found.layout != torch.strided or found.is_complex():
        return None
    return found.detach()
