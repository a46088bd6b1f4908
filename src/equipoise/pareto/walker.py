"""Walker: one solution on its way over a landscape, with its optimizer and what it has cost."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from equipoise.core.backward import backward
from equipoise.core.bundle import Bundle
from equipoise.core.collect import gradients
from equipoise.core.errors import NonFiniteDirection
from equipoise.core.objectives import Preference, simplex_preference
from equipoise.core.rule import GramianRule, Rule, Scalarizer
from equipoise.core.step import Step
from equipoise.pareto.landscape import Landscape


class Walker:
    """A model that goes down a landscape, with its optimizer; `count` is what it has cost.

    The cost is in gradients, backward passes from a loss to the parameters: a step by a scalarisation is
    one, a step by a rule over directions is m.
    """

    def __init__(self, landscape: Landscape, model: nn.Module, learning_rate: float) -> None:
        self.landscape = landscape
        self.model = model
        self.optimizer = landscape.optimizer(model.parameters(), learning_rate)
        self.count = 0

    def step(self, rule: Rule, preference: Preference = None) -> Step:
        """One step of the optimizer along a rule's direction."""
        losses = self.landscape.losses(self.model)
        if isinstance(rule, Scalarizer):
            step = self._scalarized(losses, rule, preference)
        else:
            step = backward(losses, rule, preference=preference, parameters=self.model)
        one = isinstance(rule, Scalarizer) or (isinstance(rule, GramianRule) and not rule.needs_directions)
        self.count += 1 if one else len(self.landscape.names)
        self._advance()
        rule.update(step)
        return step

    def directions(self) -> tuple[Tensor, Bundle]:  # -> (m,), m directions
        """The losses and their gradients, for a solver that combines those of several solutions."""
        losses = self.landscape.losses(self.model)
        values = torch.stack([losses[name].detach().double().cpu() for name in self.landscape.names])
        self.count += len(self.landscape.names)
        return values, gradients(losses, self.model)

    def move(self, direction: Mapping[str, Tensor]) -> None:
        """One step of the optimizer against a direction, by the names of parameters."""
        for name, parameter in self.model.named_parameters():
            if name in direction:
                parameter.grad = direction[name].to(parameter).reshape(parameter.shape)
        self._advance()

    def descend(self, loss: Callable[[Mapping[str, Tensor]], Tensor]) -> Mapping[str, Tensor]:
        """One step down a scalar made of the losses; gives the losses, detached."""
        losses = self.landscape.losses(self.model)
        loss(losses).backward()
        self.count += 1
        self._advance()
        return {name: value.detach() for name, value in losses.items()}

    def pull(self, losses: Mapping[str, Tensor], weights: Tensor) -> None:  # m scalars, (m,)
        """One step down the weighted sum of losses that were taken at this model before."""
        values = torch.stack([losses[name] for name in self.landscape.names])
        (values * weights.to(values)).sum().backward()
        self.count += 1
        self._advance()

    def tensors(self) -> dict[str, Tensor]:
        """A copy of the model's state."""
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def _scalarized(self, losses: Mapping[str, Tensor], rule: Scalarizer, preference: Preference) -> Step:
        """What `backward` does for a scalarisation of losses that are all there, at a third of its time."""
        names = self.landscape.names
        stacked = torch.stack([losses[name] for name in names])
        values = stacked.detach().double().cpu()
        if bad := [n for n, ok in zip(names, values.isfinite().tolist(), strict=True) if not ok]:
            raise NonFiniteDirection(bad, "take a lower learning rate")
        wish = simplex_preference(preference, names)
        given = None if wish is None else wish.to(stacked)
        rule.apply_to(stacked, preference=given, names=names).backward()
        return Step(names, values, None, preference=wish)

    def _advance(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.landscape.project(self.model)
