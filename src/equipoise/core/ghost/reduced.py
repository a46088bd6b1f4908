"""The layer rule of biases and scales: the output gradient times what the parameter multiplies, summed."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from equipoise.core.ghost.use import Use, saved

BIAS = {"AddmmBackward0": 0, "ConvolutionBackward0": 2}
NORMS = frozenset(
    {
        "NativeLayerNormBackward0",
        "NativeGroupNormBackward0",
        "NativeBatchNormBackward0",
        "CudnnBatchNormBackward0",
        "FusedRmsNormBackward0",
    }
)
SUMS = frozenset({"AddBackward0", "SubBackward0"})
NODES = frozenset({*BIAS, *NORMS, *SUMS, "MulBackward0"})


Scale = Callable[[], Tensor]


class ReducedUse(Use):
    """y = ... + f s p with p broadcast: its gradient is f times the sum of D s over what it was broadcast to.

    `placed` is the shape of p against the output, of as many axes; `scale` gives s, None for a bias.
    """

    def __init__(
        self, node: Any, leaf: Tensor, placed: Sequence[int], scale: Scale | None = None, factor: float = 1.0
    ) -> None:
        super().__init__(node)
        self.shape = leaf.shape
        self.placed = tuple(placed)
        self.scale = scale
        self.factor = factor

    @classmethod
    def read(cls, node: Any, slot: int, leaf: Tensor) -> "ReducedUse | None":
        """The use of a leaf, not of a view of it, as input `slot` of a node; None where no rule covers it."""
        kind = type(node).__name__
        axes = len(node._input_metadata[0].shape)
        trailing = (*(1,) * (axes - leaf.dim()), *leaf.shape)
        channels = (1, leaf.numel(), *(1,) * (axes - 2))
        if kind in NORMS:
            return cls._norm(node, slot, leaf, kind, trailing, channels)
        if kind in BIAS:
            if slot != BIAS[kind]:
                return None
            factor = float(getattr(node, "_saved_beta", 1))
            return cls(node, leaf, channels if kind == "ConvolutionBackward0" else trailing, factor=factor)
        if kind in SUMS:
            sign = -1.0 if kind == "SubBackward0" else 1.0
            return cls(node, leaf, trailing, factor=sign * float(node._saved_alpha) if slot else 1.0)
        other = saved(node, "self" if slot else "other")
        return None if other is None else cls(node, leaf, trailing, lambda: other)

    @classmethod
    def _norm(
        cls, node: Any, slot: int, leaf: Tensor, kind: str, trailing: Sequence[int], channels: Sequence[int]
    ) -> "ReducedUse | None":
        batch = kind not in ("NativeLayerNormBackward0", "FusedRmsNormBackward0")
        placed = channels if batch else trailing
        if slot == 2:
            return cls(node, leaf, placed)
        inputs = saved(node, "input")
        if slot != 1 or inputs is None:
            return None
        scale = _normalised(node, kind, inputs)
        return None if scale is None else cls(node, leaf, placed, scale)

    def gradient(self, d: Tensor) -> Tensor:  # (*out) -> shape
        found = d if self.scale is None else d * self.scale()
        found = found.sum_to_size(self.placed).reshape(self.shape)
        return found if self.factor == 1 else found * self.factor

    def by_sample(self, d: Tensor, order: Callable[[Tensor], Tensor]) -> Tensor:  # -> (samples, *shape)
        """The gradient from each sample's share of the first axis, along which p must not vary.

        `order` splits the first axis into samples and places.
        """
        found = order(d if self.scale is None else d * self.scale().expand_as(d))
        found = found.sum_to_size(len(found), 1, *self.placed[1:]).reshape(len(found), *self.shape)
        return found if self.factor == 1 else found * self.factor


def _normalised(node: Any, kind: str, inputs: Tensor) -> Scale | None:
    """What gives the normalised input that a norm layer's scale multiplies."""
    if kind == "FusedRmsNormBackward0":
        spread = saved(node, "result1")
        return None if spread is None else lambda: inputs * spread
    if kind in ("NativeBatchNormBackward0", "CudnnBatchNormBackward0") and not node._saved_training:
        mean, variance = saved(node, "running_mean"), saved(node, "running_var")
        eps = getattr(node, "_saved_eps", getattr(node, "_saved_epsilon", 0.0))
        spread = None if variance is None else (variance + eps).rsqrt()
    else:
        mean, spread = saved(node, "result1"), saved(node, "result2")
    if mean is None or spread is None:
        return None
    if kind == "NativeGroupNormBackward0":
        grouped = inputs.unflatten(1, (mean.shape[1], -1)).flatten(2)
        return lambda: ((grouped - mean[..., None]) * spread[..., None]).reshape(inputs.shape)
    if kind != "NativeLayerNormBackward0":
        axes = (1, -1, *(1,) * (inputs.dim() - 2))
        mean, spread = mean.view(axes), spread.view(axes)
    return lambda: (inputs - mean) * spread
