"""Adaptive online-to-batch conversion: an average of the iterates that no other dominates."""

from collections.abc import Mapping
from copy import deepcopy
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from equipoise.core.card import Card
from equipoise.core.iterates import Iterate, insert, thin, weighted_mean

CARD = Card(
    name="AdaOMDTchebycheff",
    shape="wrapper",
    summary="Averages those iterates of a model that no other one dominates.",
    formula="theta = sum_k gamma_k theta_k / T over the non-dominated k, sum gamma = T",
    title="Adaptive Online Mirror Descent for Tchebycheff Scalarization in Multi-Objective Learning",
    authors=("Meitong Liu", "Xiaoyuan Zhang", "Chulin Xie", "Kate Donahue", "Han Zhao"),
    venue="TMLR",
    year=2026,
    arxiv="2410.21764",
    guarantees=("PREFERENCE",),
    single="the iterate with the lowest loss",
    cost="one copy of the model a round, max_iterates copies kept",
    use="with OMDTchebycheff, or any rule whose iterates circle",
    avoid="where the losses of single batches are too noisy to tell which iterate is better",
    status="experimental",
    evidence="omd_tchebycheff",
)


class AdaOMDTchebycheff(nn.Module):
    """The weighted average of those iterates of a model that no other iterate dominates.

    Wraps a model as `torch.optim.swa_utils.AveragedModel` does, under any rule: call
    `update_parameters(model, losses)` once a round with the losses of the model as it is then (after
    `backward`, before `optimizer.step`, that is `step.losses`). Every round brings a weight gamma of 1. An
    iterate as bad as a stored one or worse in every loss is not stored, and its weight is divided
    evenly over the stored ones that dominate it; one that dominates stored ones takes their place and
    their weights. So the weights sum to the number of rounds T.

    `module` is the average sum gamma_k theta_k / T, which calling the wrapper calls; `uniform.module`
    the plain average of all rounds, to stand beside it and the model itself, the last iterate.

    Memory: at most `max_iterates` copies, on `device` (default: where the model is), and two of the
    model. When there are more, the two whose losses are nearest, relative to the range of each loss
    over the copies, become their weighted mean with the weighted mean of their losses: the average is
    the same, and for convex losses what is noted of the mean is an upper bound of its losses.

    Buffers, such as the statistics of BatchNorm, are those of the latest model, or averaged as the
    parameters are with `use_buffers` (integer ones stay the latest). `update_bn(loader, wrapper.module)`
    computes them anew.

    Use it where iterates circle a solution. Not with losses of small batches, which do not show which
    iterate is better. Raises ValueError for losses that are not finite or whose names change.
    Source: Liu et al. 2026, adaptive online-to-batch conversion.

    >>> model = nn.Linear(1, 1)
    >>> averaged = AdaOMDTchebycheff(model)
    >>> averaged.update_parameters(model, {"a": 0.2, "b": 0.7})
    >>> averaged.weights
    tensor([1.], dtype=torch.float64)
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        max_iterates: int = 32,
        use_buffers: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if max_iterates < 1:
            raise ValueError(f"max_iterates is {max_iterates}; at least one iterate must be kept")
        self.max_iterates = max_iterates
        self.use_buffers = use_buffers
        self.device = device
        self.objectives: tuple[str, ...] = ()
        self.rounds = 0
        self.iterates: list[Iterate] = []
        self.uniform = AveragedModel(model, use_buffers=use_buffers)
        self.adaptive = deepcopy(model)
        self._stale = False
        self.register_state_dict_pre_hook(_bring_up_to_date)

    @property
    def module(self) -> nn.Module:
        """The model at the adaptive average, brought up to date when asked for."""
        if self._stale:
            self._average()
        return self.adaptive

    @property
    def weights(self) -> Tensor:  # -> (k,)
        """The weights of the stored iterates, oldest first; their sum is the number of rounds."""
        return torch.tensor([iterate.weight for iterate in self.iterates], dtype=torch.float64)

    @property
    def losses(self) -> Tensor:  # -> (k, m)
        """The losses of the stored iterates, oldest first."""
        rows = [iterate.losses for iterate in self.iterates]
        return torch.stack(rows) if rows else torch.empty(0, len(self.objectives), dtype=torch.float64)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return self.module(*inputs, **options)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module, losses: Mapping[str, Tensor | float] | Tensor) -> None:
        """Take the model in, with its losses by name or as a tensor (m,)."""
        values = self._checked(losses)
        tensors = {
            name: tensor.detach().to(self.device or tensor.device, copy=True)
            for name, tensor in self._averaged(model).items()
        }
        self.rounds += 1
        self.iterates = thin(insert(self.iterates, Iterate(tensors, values, 1.0)), self.max_iterates)
        self.uniform.update_parameters(model)
        for kept, latest in zip(self.adaptive.buffers(), model.buffers(), strict=True):
            kept.copy_(latest)
        self._stale = True

    def get_extra_state(self) -> dict[str, Any]:
        """Everything but the uniform average: names, rounds and the iterates with losses and weights."""
        return {
            "objectives": list(self.objectives),
            "rounds": self.rounds,
            "iterates": [(iterate.tensors, iterate.losses, iterate.weight) for iterate in self.iterates],
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.objectives = tuple(state["objectives"])
        self.rounds = state["rounds"]
        self.iterates = [
            Iterate({name: tensor.clone() for name, tensor in tensors.items()}, losses.clone(), weight)
            for tensors, losses, weight in state["iterates"]
        ]
        self._stale = bool(self.iterates)

    def _checked(self, losses: Mapping[str, Tensor | float] | Tensor) -> Tensor:  # -> (m,)
        if isinstance(losses, Tensor):
            losses = {str(i): value for i, value in enumerate(losses.detach().reshape(-1))}
        if not self.objectives:
            self.objectives = tuple(losses)
        if set(losses) != set(self.objectives):
            raise ValueError(
                f"losses of {', '.join(map(repr, losses))}, but iterates are compared on "
                f"{', '.join(map(repr, self.objectives))}: give the loss of each at every round"
            )
        values = torch.tensor([float(losses[name]) for name in self.objectives], dtype=torch.float64)
        if not bool(values.isfinite().all()):
            bad = [name for name in self.objectives if not isfinite(float(losses[name]))]
            raise ValueError(f"the loss of {', '.join(map(repr, bad))} is not finite; leave this round out")
        return values

    def _averaged(self, model: nn.Module) -> dict[str, Tensor]:
        """The tensors that are averaged, by name."""
        buffers = model.named_buffers() if self.use_buffers else ()
        return {**dict(model.named_parameters()), **{n: b for n, b in buffers if b.is_floating_point()}}

    @torch.no_grad()
    def _average(self) -> None:
        mean = weighted_mean(self.iterates)
        for name, target in self._averaged(self.adaptive).items():
            target.copy_(mean[name])
        self._stale = False


def _bring_up_to_date(wrapper: nn.Module, prefix: str, keep_vars: bool) -> None:
    if isinstance(wrapper, AdaOMDTchebycheff) and wrapper._stale:
        wrapper._average()
