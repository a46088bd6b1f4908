"""AdaMerging: weights of task vectors that make predictions on unlabelled data sure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.core.card import Card
from equipoise.merging.agreedarithmetic import AgreedArithmetic
from equipoise.merging.calibrate import evaluating
from equipoise.merging.combined import By, Coefficients, Combined, turns
from equipoise.merging.merge import Model, merge, opened
from equipoise.merging.ties import TIES

CARD = Card(
    name="AdaMerging",
    shape="system",
    summary="Tunes a weight for each task, or for each task and tensor, on unlabelled data",
    formula="min_lambda sum_k E_x H(softmax f(x; theta_0 + sum_i lambda_i^l (theta_i - theta_0)))",
    title="AdaMerging: Adaptive Model Merging for Multi-Task Learning",
    authors=("Yang", "Wang", "Shen", "Liu", "Guo", "Wang", "Tao"),
    venue="ICLR",
    year=2024,
    arxiv="2310.02575",
    cost="steps forward and backward passes of a batch of each task; memory of m + 1 models",
    use="classifiers from one base, unlabelled inputs of every task at hand",
    avoid="experts far from the base: low entropy is also reached by naming one class for all inputs",
    single="the base moved towards the model as far as its predictions grow surer",
    status="main",
    evidence="merging",
)

Predict = Callable[[nn.Module, str, Any], Tensor]
"""Logits (n, ..., classes) of a model for a task's batch."""
Batches = Mapping[str, Iterable[Any]]
Method = Coefficients | AgreedArithmetic


@dataclass(frozen=True)
class Check:
    """What a look at the guard's data found after so many steps.

    entropy: task -> mean entropy of the predictions. marginal: task -> entropy of their mean, which falls
    to 0 where one class is named for all inputs. score: what decides, higher is better.
    """

    step: int
    score: float
    entropy: Mapping[str, float]
    marginal: Mapping[str, float]


@dataclass(frozen=True)
class Adapted:
    """What AdaMerging found: a method for `merge`, and the way there.

    method: merges with the weights of the step with the best score, which are also in `weights`: group of
    tensors -> model -> weight. last: with those of the last step. collapsed: the tasks
    whose marginal entropy fell below half of its highest value by the last step; where there are any, the
    entropy was lowered by naming few classes for all inputs, and `last` is not to be used.
    """

    method: Method
    last: Method
    weights: Mapping[str, Mapping[str, float]]
    step: int
    checks: tuple[Check, ...]
    collapsed: tuple[str, ...]


@dataclass(frozen=True)
class AdaMerging:
    """Tunes the weights lambda of task vectors so that predictions on unlabelled inputs are sure.

    Adam lowers sum_k H_k, H_k the mean entropy of the soft-max on a batch of task k, over lambda in
    theta_0 + sum_i lambda_i^l delta_i. by: "tensor" has a weight for each model and tensor (what the authors
    call layer-wise), "layer" shares it within a layer, "task" is one for each model. start: lambda at first.
    low, high: what lambda is clamped to where it is used; None leaves it free. ties: also trim the task
    vectors and elect signs by this rule first (AdaMerging++; `TIES(preset="fusion_bench")` is what the
    authors do), at the cost of m merges in memory. The defaults are the paper's.

    Low entropy is also reached by naming one class for everything, so each `every` steps a guard looks at
    held-out inputs: its score is the mean over tasks of H(mean prediction) - mean H(prediction), high for
    sure and varied predictions, or what `evaluate` says. The best step by that score is given back; without
    `evaluate`, a step at which a task has collapsed is never chosen.

    Use it where unlabelled inputs of each task are at hand; not for experts far from their base.

    Raises ValueError for options out of range, for what `Combined` refuses, and where an entropy or the score
    of `evaluate` is not finite.

    Source: Yang et al., ICLR 2024, equations 4 to 6, and the authors' code. The guard is ours.

    >>> AdaMerging(by="task").start
    0.3
    """

    by: By = "tensor"
    start: float = 0.3
    low: float | None = 0.0
    high: float | None = 1.0
    learning_rate: float = 1e-3
    steps: int = 500
    every: int = 25
    ties: TIES | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "steps", "every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"AdaMerging: {name} is {getattr(self, name)}; it must be positive")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"AdaMerging: low is {self.low} and high {self.high}; high must be above low")

    def fit(
        self,
        model: nn.Module,
        checkpoints: Mapping[str, Model] | Sequence[Model],
        base: Model,
        batches: Batches,
        *,
        predict: Predict | None = None,
        held: Batches | None = None,
        evaluate: Callable[[nn.Module], float] | None = None,
        looks: int = 8,
    ) -> Adapted:
        """Find the weights; `merge(checkpoints, base, method=found.method)` then writes the model.

        batches: task -> its batches of inputs, gone through again and again. predict(model, task, batch)
        gives logits; by default `model(batch)`. held: batches for the guard, by default the same ones;
        `looks` of each task are used. evaluate(model): a score of the guard's own, higher is better, such as
        accuracy on a few labelled samples. The model lends its structure and stays as it is.
        """
        predict = predict or _forward
        models = checkpoints if self.ties is None else _agreed(self.ties, checkpoints, base)
        combined = Combined(model, models, base, by=self.by, start=self.start)
        optimizer = torch.optim.Adam([combined.weights], lr=self.learning_rate)
        guard = _Guard(combined, predict, held or batches, looks, evaluate)
        running = turns(batches)
        checks, best, chosen = [], -float("inf"), 0
        kept = combined.weights.detach().clone()
        with evaluating(model):
            for step in range(self.steps + 1):
                if step % self.every == 0 or step == self.steps:
                    checks.append(guard.look(step, self._used(combined.weights)))
                    usable = evaluate is not None or not collapsed(checks)
                    if checks[-1].score > best and usable:
                        best, kept, chosen = checks[-1].score, combined.weights.detach().clone(), step
                if step == self.steps:
                    break
                turn = next(running)
                losses = combined.call(
                    lambda held, turn=turn: {
                        task: entropy(predict(held, task, batch)).mean() for task, batch in turn.items()
                    },
                    self._used(combined.weights),
                )
                for task, loss in losses.items():
                    _check_finite(f"the entropy of task {task!r}", loss.item(), step)
                total = sum(losses.values(), torch.zeros(()))
                optimizer.zero_grad()
                total.backward(inputs=[combined.weights])
                optimizer.step()
        return Adapted(
            self._method(combined.coefficients(self._used(kept))),
            self._method(combined.coefficients(self._used(combined.weights))),
            combined.coefficients(self._used(kept)).weights,
            chosen,
            tuple(checks),
            collapsed(checks),
        )

    def _method(self, found: Coefficients) -> Method:
        return found if self.ties is None else AgreedArithmetic(found, self.ties)

    def _used(self, weights: Tensor) -> Tensor:
        return weights if self.low is None and self.high is None else weights.clamp(self.low, self.high)


def entropy(logits: Tensor) -> Tensor:  # (..., classes) -> (...)
    """The entropy of the soft-max over the last axis; a class that is masked by -infinity adds nothing."""
    logarithms = logits.log_softmax(-1)
    return -(logarithms.exp() * logarithms.masked_fill(logarithms == -inf, 0.0)).sum(-1)


def collapsed(checks: Sequence[Check]) -> tuple[str, ...]:
    """The tasks whose marginal entropy ended below half of its highest value."""
    return tuple(
        task
        for task, last in checks[-1].marginal.items()
        if last < max(check.marginal[task] for check in checks) / 2
    )


def _agreed(
    ties: TIES, checkpoints: Mapping[str, Model] | Sequence[Model], base: Model
) -> dict[str, dict[str, Tensor]]:
    """The base plus what is left of each task vector after trimming and election."""
    names = list(opened(checkpoints))
    return {
        name: merge(
            checkpoints,
            base,
            method=AgreedArithmetic({other: float(other == name) for other in names}, ties),
        )
        for name in names
    }


class _Guard:
    """Looks at predictions on held-out inputs, without gradients."""

    def __init__(
        self,
        combined: Combined,
        predict: Predict,
        held: Batches,
        looks: int,
        evaluate: Callable[[nn.Module], float] | None,
    ) -> None:
        self.combined = combined
        self.predict = predict
        self.held = {task: list(islice(found, looks)) for task, found in held.items()}
        self.evaluate = evaluate
        if empty := [task for task, found in self.held.items() if not found]:
            raise ValueError(f"the guard has no batch of {', '.join(empty)}; give a list or a loader of some")

    @torch.no_grad()
    def look(self, step: int, weights: Tensor) -> Check:
        return self.combined.call(lambda model: self._look(step, model), weights)

    def _look(self, step: int, model: nn.Module) -> Check:
        sure, marginal = {}, {}
        for task, found in self.held.items():
            logits = [self.predict(model, task, batch) for batch in found]
            flat = torch.cat([one.reshape(-1, one.shape[-1]).double() for one in logits])
            sure[task] = entropy(flat).mean().item()
            marginal[task] = entropy(flat.softmax(-1).mean(0).log()).item()
            _check_finite(f"the entropy of held-out task {task!r}", sure[task] + marginal[task], step)
        score = sum(marginal[task] - sure[task] for task in sure) / len(sure)
        if self.evaluate is not None:
            score = float(self.evaluate(model))
            _check_finite("the score of evaluate", score, step)
        return Check(step, score, sure, marginal)


def _check_finite(what: str, value: float, step: int) -> None:
    if not isfinite(value):
        raise ValueError(f"AdaMerging: {what} is {value} at step {step}; look for NaN or infinity in logits")


def _forward(model: nn.Module, task: str, batch: Any) -> Tensor:
    del task
    return model(batch)
