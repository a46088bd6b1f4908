"""The loop of a trial: a model, a rule and an optimizer, advanced one batch at a time."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.core.backward import backward
from equipoise.core.call import Private
from equipoise.core.collect import gradients
from equipoise.core.errors import unknown
from equipoise.core.problem import Problem
from equipoise.core.step import Step
from equipoise.study.averaging import Averaging
from equipoise.study.results import Trial
from equipoise.study.roster import YARDSTICK, build
from equipoise.study.specification import Specification


class Loop:
    """One training under way. Everything random in it is drawn from the trial's seed.

    `absent` are the objectives of the trial that no batch has had so far.
    """

    def __init__(self, problem: Problem, specification: Specification, trial: Trial) -> None:
        seed_all(trial.seed)
        self.problem = problem
        self.trial = trial
        self.private: Private = specification.private
        self.wanted = (trial.rule,) if trial.kind == "single" else tuple(problem.objectives)
        self.absent = set(self.wanted)
        self.model: nn.Module = problem.model()
        self.model.train()
        self.averaging = Averaging.of(trial.rule, self.model) if trial.kind == "rule" else None
        name = YARDSTICK if trial.kind == "single" else trial.rule
        name = self.averaging.rule if self.averaging else name
        self.rule = build(name, specification.objectives, trial.seed)
        self.preference = None
        if trial.weights is not None:
            self.preference = dict(zip(specification.objectives, trial.weights, strict=True))
        self.optimizer = problem.optimizer(
            [*self.model.parameters(), *self.rule.parameters()], trial.learning_rate
        )
        self.order = torch.Generator().manual_seed(trial.seed)

    def step(
        self, batch: Any, *, epoch_ended: bool = False, look: bool = False
    ) -> tuple[Step, Tensor | None] | None:
        """One optimizer step; the step, and with `look` the Gramian (m, m) of the shared parameters.

        None where the batch has none of the trial's objectives. Raises ValueError where the problem
        gives a loss to a name that is no objective.
        """
        losses = self._losses(batch)
        self.absent.difference_update(losses)
        if not losses:
            return None
        gramian = None
        if look and not self.rule.needs_directions:
            gramian = gradients(losses, retain_graph=True).gramian(check=False)
        parameters = self.model if self.rule.stages() else None
        step = backward(
            losses, self.rule, preference=self.preference, private=self.private, parameters=parameters
        )
        if self.averaging is not None and len(losses) == len(self.problem.objectives):
            self.averaging.update(self.model, step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.rule.update(step, losses=lambda: self._losses(batch), epoch_ended=epoch_ended)
        return step, gramian if step.gramian is None else step.gramian

    def solutions(self) -> dict[str, nn.Module]:
        """The trained models: "" is the trial's own, others stand beside it."""
        return {"": self.model} if self.averaging is None else self.averaging.solutions(self.model)

    def _losses(self, batch: Any) -> Mapping[str, Tensor]:
        losses = self.problem.losses(self.model, batch)
        for name in losses:
            if name not in self.problem.objectives:
                raise ValueError(f"`losses`: {unknown('objective', str(name), self.problem.objectives)}")
        return {name: losses[name] for name in self.wanted if losses.get(name) is not None}


def seed_all(seed: int) -> None:
    """Seed the global generators that a user's model or losses may draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
