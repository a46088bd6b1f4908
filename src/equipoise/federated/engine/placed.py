"""A model as a function of its parameters, and the loss of a batch as one."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from equipoise.core.federation import Examples, Federation
from equipoise.federated.clientalgorithm import Tensors


class Placed(nn.Module):
    """Calls functions of a model while parameters stand in the place of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], batch: Examples) -> Any:
        return function(self.model, batch)

    def call(self, function: Callable[..., Any], tensors: Mapping[str, Tensor], batch: Examples) -> Any:
        """`function(model, batch)` with these parameters and buffers in the model."""
        named = {f"model.{name}": tensor for name, tensor in tensors.items()}
        return functional_call(self, named, (function, batch), strict=False)


class BatchLoss:
    """The mean loss of the examples of a batch; `mask` (n,) is 0 where an example is padding.

    `own` are the parameters that stand in the model already.
    """

    def __init__(
        self,
        federation: Federation,
        placed: Placed,
        batch: Examples,
        *,
        mask: Tensor | None = None,
        own: Tensors | None = None,
    ) -> None:
        self.federation = federation
        self.placed = placed
        self.batch = batch
        self.mask = mask
        self.own = own

    def __call__(self, parameters: Mapping[str, Tensor]) -> Tensor:
        return self.mean(self.call(self.federation.losses, parameters))

    def call(self, function: Callable[..., Any], parameters: Mapping[str, Tensor]) -> Any:
        if parameters is self.own:
            return function(self.placed.model, self.batch)
        return self.placed.call(function, parameters, self.batch)

    def mean(self, values: Tensor) -> Tensor:  # (n,) -> ()
        if self.mask is None:
            return values.mean()
        return (values * self.mask).sum() / self.mask.sum().clamp(min=1)


def parameters_of(model: nn.Module) -> Tensors:
    """Copies of the parameters that are trained, by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def buffers_of(model: nn.Module) -> Tensors:
    """Copies of the floating-point buffers that are saved with a model, by name."""
    found = {name: b for name, b in model.named_buffers() if b.is_floating_point()}
    if not found:
        return {}
    saved = model.state_dict().keys()
    return {name: buffer.detach().clone() for name, buffer in found.items() if name in saved}


def load(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy parameters and buffers into a model in place.

    Raises ValueError naming a tensor that is missing or has another shape there.
    """
    fill({**dict(model.named_parameters()), **dict(model.named_buffers())}, tensors)


@torch.no_grad()
def fill(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into those of the same names; raises ValueError as `load` does."""
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            shape = tuple(own[name].shape) if name in own else "nothing of that name"
            raise ValueError(f"{name!r} has shape {tuple(tensor.shape)}, and the model {shape}")
        own[name].copy_(tensor)
