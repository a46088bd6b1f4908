"""Training one trial, in whatever process it happens to run."""

import copy
import math
import time
import traceback
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from equipoise.core.gramian import conflict
from equipoise.core.step import Step
from equipoise.study.loop import Loop
from equipoise.study.results import Measure, Outcome, Trial
from equipoise.study.specification import Specification
from equipoise.study.store import Record, metrics_file
from equipoise.study.tracing import trace

LOOKS = 10
"""Measures taken during a training, evenly spaced, the first and the last step among them."""


class Diverged(ArithmeticError):
    """A parameter or a metric is not finite at the end of a training."""


class Untrained(ValueError):
    """An objective of the trial had a loss in no batch."""


class Trainer:
    """Trains the trials of one study; the data are loaded once."""

    def __init__(self, specification: Specification) -> None:
        self.specification = specification
        self.problem = specification.build_problem()
        self.problem.prepare()
        _warm_up()
        batches = self.problem.batches("train", torch.Generator().manual_seed(0))
        each = sum(1 for _ in batches)
        self.steps = each * specification.epochs if specification.steps is None else specification.steps
        if not each:
            raise ValueError(f"problem {specification.problem} yields no training batches")

    def run(self, trial: Trial, on_epoch: Callable[[int], None] = lambda epoch: None) -> Record:
        """Train, evaluate on validation and test data, and tell how it went; never raises Exception.

        The same trial gives the same `Record.metrics`, bit by bit, in any process with one thread.
        """
        if trial.kind == "front":
            return trace(self.specification, self.problem, self.steps, trial)
        attempt = _Attempt(self, trial, on_epoch)
        started = time.perf_counter()
        try:
            loop = attempt.train()
            seconds = time.perf_counter() - started
            outcomes = attempt.evaluate(loop)
            weights = serialise(loop.solutions()[""])
        except Exception as error:
            at = f"at step {attempt.step}" if attempt.step else "before the first step"
            reason = f"{type(error).__name__} {at}: {error}"
            metrics = metrics_file(trial, attempt.measures, attempt.step, failed=reason)
            timing = {"seconds": time.perf_counter() - started}
            return Record(trial, reason, metrics, timing, None, traceback.format_exc())
        outcome = outcomes.pop("")
        metrics = metrics_file(trial, attempt.measures, attempt.step, outcome, outcomes)
        timing = {"seconds": seconds, "seconds_with_evaluation": time.perf_counter() - started}
        return Record(trial, None, metrics, timing, weights)


class _Attempt:
    """One training, with what has been seen of it so far."""

    def __init__(self, trainer: Trainer, trial: Trial, on_epoch: Callable[[int], None]) -> None:
        self.trainer = trainer
        self.trial = trial
        self.on_epoch = on_epoch
        self.problem = copy.copy(trainer.problem)
        self.measures: list[Measure] = []
        self.step = 0

    def train(self) -> Loop:
        specification = self.trainer.specification
        loop = Loop(self.problem, specification, self.trial)
        last = max(1, self.trainer.steps - 1)
        looks = {1 + round(i * last / (LOOKS - 1)) for i in range(LOOKS)}
        for epoch, batch, epoch_ended in self._batches(loop.order):
            self.step += 1
            look = self.step in looks
            seen = loop.step(batch, epoch_ended=epoch_ended, look=look)
            if look and seen is not None:
                self.measures.append(self._measure(epoch, *seen))
            if epoch_ended:
                self.on_epoch(epoch + 1)
        if loop.absent:
            names = ", ".join(name for name in loop.wanted if name in loop.absent)
            raise Untrained(f"no batch had a loss of {names}")
        return loop

    def _batches(self, order: torch.Generator) -> Iterator[tuple[int, Any, bool]]:
        """Epoch, batch and whether it is the epoch's last, for as many steps as a trial has."""
        left = self.trainer.steps
        for epoch in count():
            for batch, ended in _with_end(self.problem.batches("train", order)):
                if not left:
                    return
                left -= 1
                yield epoch, batch, ended
            if not left:
                return

    def _measure(self, epoch: int, step: Step, gramian: Tensor | None) -> Measure:
        whole = gramian is not None and len(step.names) == len(self.problem.objectives) > 1
        seen = conflict(gramian) if gramian is not None and whole else None
        weights = None if step.weights is None else step.weights.tolist()
        return Measure(
            step=self.step,
            epoch=epoch,
            losses=dict(zip(step.names, step.losses.tolist(), strict=True)),
            weights=None if weights is None else dict(zip(step.names, weights, strict=True)),
            share=None if seen is None else seen.share,
            norm_ratio=None if seen is None else seen.norm_ratio,
            cosines=None if seen is None else tuple(map(tuple, seen.cosines.tolist())),
        )

    def evaluate(self, loop: Loop) -> dict[str, Outcome]:
        """The outcome of each solution; raises Diverged where one is not finite."""
        found = {}
        for name, model in loop.solutions().items():
            if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
                raise Diverged("the trained parameters are not finite")
            model.eval()
            with torch.no_grad():
                validation = self._metrics(model, "validation")
                judged = self.trainer.specification.judged
                found[name] = Outcome(
                    validation, validation if judged == "validation" else self._metrics(model, judged)
                )
        return found

    def _metrics(self, model: nn.Module, split: Any) -> dict[str, float]:
        values = self.problem.evaluate(model, split)
        metrics = {name: float(values[name]) for name in self.problem.objectives}
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise Diverged(f"the {split} metric of {', '.join(bad)} is not finite")
        return metrics


def _warm_up() -> None:
    """Let torch load what its first optimizer loads, so that no trial's time holds it."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0).zero_grad()


def serialise(model: nn.Module) -> bytes:
    """A model's state as safetensors; tensors that share memory are written each on its own."""
    state = ((name, t) for name, t in model.state_dict().items() if isinstance(t, Tensor))
    return safetensors.torch.save({name: t.detach().cpu().clone().contiguous() for name, t in state})


def _with_end(batches: Any) -> Iterator[tuple[Any, bool]]:
    """Each batch, and whether it is the last."""
    end = object()

    def ended() -> Iterator[Any]:
        yield from batches
        yield end

    for batch, following in pairwise(ended()):
        yield batch, following is end
