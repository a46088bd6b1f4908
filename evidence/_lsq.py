"""Learned step size quantisation (Esser et al., ICLR 2020): layers whose scales are trained."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def quantised(values: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """round(clip(v / s)) s, with the identity as the derivative of rounding, and that of s divided by
    sqrt(numbers * high), as in their section 2.2."""
    factor = (values.numel() * high) ** -0.5
    scale = scale * factor + (scale * (1 - factor)).detach()
    steps = (values / scale).clamp(low, high)
    return (steps + (steps.round() - steps).detach()) * scale


class Quantised(nn.Module):
    """A linear or convolutional layer with quantised weights and, from its second batch on, quantised inputs.

    Scales start at 2 mean|v| / sqrt(high), that of the inputs (which are positive) on the first batch.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, bits: int) -> None:
        super().__init__()
        self.layer = layer
        self.bits = bits
        self.weight_scale = nn.Parameter(_start(layer.weight, 2 ** (bits - 1) - 1))
        self.input_scale = nn.Parameter(torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        top = 2**self.bits - 1
        if not bool(self.input_scale.detach()):
            self.input_scale.data = _start(inputs, top)
        inputs = quantised(inputs, self.input_scale, 0, top)
        half = 2 ** (self.bits - 1)
        weight = quantised(self.layer.weight, self.weight_scale, -half, half - 1)
        if isinstance(self.layer, nn.Conv2d):
            layer = self.layer
            return functional.conv2d(inputs, weight, layer.bias, layer.stride, layer.padding)
        return functional.linear(inputs, weight, self.layer.bias)


def _start(values: Tensor, high: int) -> Tensor:
    return 2 * values.detach().abs().mean() / high**0.5
