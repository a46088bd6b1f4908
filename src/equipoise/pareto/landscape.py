"""Landscape: m losses of a model, for a solver to trace their front."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from equipoise.core.bundle import Bundle
from equipoise.core.collect import gradients
from equipoise.core.diagnose import diagnose


class Landscape(ABC):
    """m losses that a model is to lower: an analytic function, or a training problem and its batches.

    names: the m objectives. `losses` may be another batch at each call; where `seed` was called, the batches
    are the same again.
    noisy: whether the losses of one model differ from call to call.
    """

    names: tuple[str, ...]
    noisy: bool = False

    def seed(self, seed: int) -> None:
        """Begin anew with the batches of a seed; an analytic landscape has none."""
        del seed

    @abstractmethod
    def model(self, seed: int) -> nn.Module:
        """A new model, at a start drawn from the seed."""

    @abstractmethod
    def losses(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The losses, differentiable, on the batch that comes next."""

    @abstractmethod
    def evaluate(self, model: nn.Module) -> Tensor:  # -> (m,)
        """The values by which solutions are compared, lower is better, float64; without gradients."""

    def project(self, model: nn.Module) -> None:
        """Bring a model back into its domain after a step; most have none to leave."""
        del model

    def optimizer(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        """The optimizer of every solver; plain SGD unless overridden."""
        return torch.optim.SGD(parameters, lr=learning_rate)

    @contextmanager
    def one_batch(self) -> Iterator[None]:
        """Within, every call of `losses` is on one batch, the next; an analytic landscape has but one."""
        yield

    def losses_at(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The losses with other parameters in the place of the model's, differentiable by those.

        tensors: by the names of `model.named_parameters()`; what is absent stays as it is.
        """
        return functional_call(_Losses(self, model), {f"model.{k}": v for k, v in tensors.items()}, ())

    def bundle(self, model: nn.Module) -> Bundle:
        """The gradients of the losses, for the gap to Pareto stationarity; one batch unless overridden."""
        return gradients(self.losses(model), model)

    def gap(self, model: nn.Module) -> float:
        """How far a model is from Pareto stationarity: the length of the min-norm point of its gradients over
        that of their mean, 0 where it is stationary. It says nothing of one objective, whose min-norm point
        is its mean: 1 but where the gradient is zero."""
        return diagnose(self.bundle(model)).stationarity


class _Losses(nn.Module):
    """A landscape's losses as the forward pass of a module, for `functional_call`."""

    def __init__(self, landscape: Landscape, model: nn.Module) -> None:
        super().__init__()
        self.landscape = landscape
        self.model = model

    def forward(self) -> Mapping[str, Tensor]:
        return self.landscape.losses(self.model)
