"""InputGrams: the Gram matrices of what enters the linear layers and convolutions of a model."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

Rows = Callable[[Tensor], Tensor]


class InputGrams:
    """Sums X^T X over the rows X that enter each layer while the model runs inside the `with` block.

    A linear layer with weight (out, in) has a row for each sample and place, and a matrix (in, in). A
    convolution with weight (out, in, *kernel) has one for each window, in the order of the flattened
    weight, and a matrix (in * kernel, in * kernel). Matrices are keyed by the name of the weight in
    `model.named_parameters()`, summed in `dtype`. A weight that several such layers share has one sum.

    `left_out` says of every other parameter of two axes or more why it has none: its layer is grouped,
    transposed or of another kind, or never ran as a module.

    Raises ValueError for Hugging Face's `Conv1D`, whose weight (in, out) lies the other way round.

    >>> model = nn.Linear(2, 1)
    >>> with InputGrams(model) as found:
    ...     _ = model(torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
    >>> found.grams()["weight"].tolist()
    [[10.0, 2.0], [2.0, 4.0]]
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.float64) -> None:
        self.dtype = dtype
        self.left_out: dict[str, str] = {}
        self._sums: dict[str, Tensor] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._hooked = self._layers(model)

    def __enter__(self) -> Self:
        for name, layers in self._hooked.items():
            for layer, rows in layers:
                self._handles.append(
                    layer.register_forward_pre_hook(self._hook(name, rows), with_kwargs=True)
                )
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def grams(self) -> dict[str, Tensor]:
        """The matrices so far, in the order of the model's parameters."""
        for name in self._hooked:
            if name not in self._sums:
                self.left_out[name] = "its layer never ran as a module"
        return {name: self._sums[name] for name in self._hooked if name in self._sums}

    def _layers(self, model: nn.Module) -> dict[str, list[tuple[nn.Module, Rows]]]:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        owners: dict[str, list[tuple[str, nn.Module]]] = {}
        for path, module in model.named_modules():
            weight = module._parameters.get("weight")
            if weight is not None and weight.dim() > 1:
                owners.setdefault(names[id(weight)], []).append((path, module))
        turned = [path for found in owners.values() for path, module in found if _turned(module)]
        if turned:
            raise ValueError(
                f"the weights of {', '.join(turned[:5])} ({len(turned)} in all) are stored as (in, out), as "
                "in Hugging Face's Conv1D, and Gram matrices of inputs do not fit them; use kinds=('fisher',)"
            )
        hooked = {}
        self.left_out |= {
            name: "no weight of a linear layer or convolution"
            for name, parameter in model.named_parameters()
            if parameter.dim() > 1 and name not in owners
        }
        for name, found in owners.items():
            ways = [_rows_of(module) for _, module in found]
            faults = [way for way in ways if isinstance(way, str)]
            if faults:
                self.left_out[name] = faults[0]
            else:
                hooked[name] = [(module, way) for (_, module), way in zip(found, ways, strict=True)]
        return hooked

    def _hook(self, name: str, rows: Rows) -> Callable[..., None]:
        def add(module: nn.Module, args: tuple[Tensor, ...], kwargs: Mapping[str, Tensor]) -> None:
            entering = (args[0] if args else kwargs["input"]).detach().to(self.dtype)
            x = rows(entering)
            if name in self._sums:
                self._sums[name].addmm_(x.T, x)
            else:
                self._sums[name] = x.T @ x

        return add


def _rows_of(module: nn.Module) -> Rows | str:
    """How rows are made of what enters a layer, or why none are."""
    match module:
        case nn.Linear():
            return lambda x: x.reshape(-1, x.shape[-1])
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d() if module.groups > 1:
            return f"a convolution of {module.groups} groups"
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return lambda x: _windows(x, module)
    return f"its layer is {type(module).__name__}"


def _windows(x: Tensor, layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Tensor:
    # (n, in, *size) or (in, *size) -> (windows, in * kernel)
    axes = len(layer.kernel_size)
    if x.dim() == axes + 1:
        x = x.unsqueeze(0)
    around = layer._reversed_padding_repeated_twice
    x = functional.pad(x, around, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)
    for axis in range(axes):
        reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        x = x.unfold(2 + axis, reach, layer.stride[axis])
        x = x[..., :: layer.dilation[axis]]
    # (n, in, *places, *kernel) -> (n, *places, in, *kernel)
    places = range(2, 2 + axes)
    kernel = range(2 + axes, 2 + 2 * axes)
    return x.permute(0, *places, 1, *kernel).reshape(-1, layer.in_channels * prod(layer.kernel_size))


def _turned(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D" and type(module).__module__.startswith("transformers.")
