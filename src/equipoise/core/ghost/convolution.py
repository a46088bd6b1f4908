"""The layer rule of convolutions in one, two and three dimensions, with groups, stride and dilation."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from equipoise.core.ghost.use import FactoredUse, saved

NODES = {"ConvolutionBackward0": 1}


class ConvolutionUse(FactoredUse):
    """A convolution in a graph: the gradient of its kernel is D'A, A the patches that the kernel saw.

    Padding other than zeros is a layer of its own before the convolution and needs nothing here.
    """

    transposed = True

    def __init__(self, node: Any, inputs: Tensor, kernel: torch.Size) -> None:
        super().__init__(node)
        self.inputs = inputs
        self.kernel = kernel
        self.stride = tuple(node._saved_stride)
        self.padding = tuple(node._saved_padding)
        self.dilation = tuple(node._saved_dilation)
        self.groups = int(node._saved_groups)
        self.n = self.out[0] * prod(self.out[2:])
        self.a = prod(kernel[1:])
        self.o = kernel[0] // self.groups

    @classmethod
    def read(cls, node: Any, slot: int, transposed: bool) -> "ConvolutionUse | None":
        """The use of a kernel in a convolution that is not transposed."""
        weight = saved(node, "weight") if slot == 1 and not transposed else None
        inputs = saved(node, "input") if weight is not None and not node._saved_transposed else None
        return None if inputs is None or weight is None else cls(node, inputs, weight.shape)

    @property
    def unfolded(self) -> int:
        return self.groups * self.n * self.a

    def left(self) -> Tensor:  # -> (groups, n, a)
        places = len(self.stride)
        around = [side for width in reversed(self.padding) for side in (width, width)]
        windows = pad(self.inputs, around)
        for axis in range(places):
            span = (self.kernel[2 + axis] - 1) * self.dilation[axis] + 1
            windows = windows.unfold(2 + axis, span, self.stride[axis])[..., :: self.dilation[axis]]
        # (batch, groups * channels, *places, *kernel) -> (groups, batch, *places, channels, *kernel)
        windows = windows.unflatten(1, (self.groups, -1))
        order = (1, 0, *range(3, 3 + places), 2, *range(3 + places, 3 + 2 * places))
        return windows.permute(order).reshape(self.groups, self.n, self.a)

    def right(self, ds: Sequence[Tensor]) -> Tensor:  # k of (*out) -> (groups, n, k, o)
        places = torch.stack([d.flatten(2) for d in ds])  # (k, batch, groups o, places)
        split = places.unflatten(2, (self.groups, self.o)).permute(2, 1, 4, 0, 3)
        return split.reshape(self.groups, self.n, len(ds), self.o)

    def gradient(self, d: Tensor) -> Tensor:  # (*out) -> (*kernel)
        none = [0] * len(self.stride)
        return torch.ops.aten.convolution_backward(
            d.to(self.inputs.dtype),
            self.inputs,
            self.inputs.new_empty(1).expand(self.kernel),
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,
            none,
            self.groups,
            [False, True, False],
        )[1]

    def matrix(self, product: Tensor) -> Tensor:  # (k, groups, o, a) -> (k, *kernel)
        return product.reshape(len(product), *self.kernel)
