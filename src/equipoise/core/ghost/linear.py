"""The layer rule of matrix products: Linear, packed projections, LoRA factors, bare matrices."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise.core.ghost.use import FactoredUse, saved

# node -> (which of its inputs is the matrix on the right, where it saved the one on the left)
NODES = {"AddmmBackward0": (2, "mat1"), "MmBackward0": (1, "self")}


class LinearUse(FactoredUse):
    """Y = X W in a graph, W the parameter or its transpose; the gradient is X'D or D'X."""

    groups = 1

    def __init__(self, node: Any, inputs: Tensor, transposed: bool, factor: float) -> None:
        super().__init__(node)
        self.inputs = inputs
        self.transposed = transposed
        self.factor = factor
        (self.n, self.a), self.o = inputs.shape, self.out[1]

    @classmethod
    def read(cls, node: Any, slot: int, transposed: bool) -> "LinearUse | None":
        """The use of a parameter as input `slot` of `node`; None where it is not the matrix on the right."""
        right, left = NODES[type(node).__name__]
        inputs = saved(node, left) if slot == right else None
        if inputs is None:
            return None
        return cls(node, inputs, transposed, float(getattr(node, "_saved_alpha", 1)))

    def left(self) -> Tensor:  # -> (1, n, a)
        return self.inputs[None]

    def right(self, ds: Sequence[Tensor]) -> Tensor:  # k of (n, o) -> (1, n, k, o)
        found = torch.stack(list(ds), 1)[None]
        return found if self.factor == 1 else found * self.factor

    def gradient(self, d: Tensor) -> Tensor:  # (n, o) -> (o, a) or (a, o)
        d = d.to(self.inputs.dtype)
        found = d.mT @ self.inputs if self.transposed else self.inputs.mT @ d
        return found if self.factor == 1 else found * self.factor

    def matrix(self, product: Tensor) -> Tensor:  # (k, 1, o, a) -> (k, o, a) or (k, a, o)
        return product[:, 0] if self.transposed else product[:, 0].mT
