"""mixtures: the trainings of a study as runs of a mixture, its weights of the losses as ratios."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from equipoise.core.problem import Metric
from equipoise.scaling.runs import Runs
from equipoise.study.results import Run, TrialResult
from equipoise.study.roster import YARDSTICK
from equipoise.study.store import load_run


def mixtures(folder: str | Path) -> Runs:
    """The runs of a study in which losses had fixed weights, for a law to be fitted to.

    Of each seed: the mean of the losses, every fixed weighting, and every objective alone, at the learning
    rates that the study has for fixed weights, or all where it has none. A loss is what validation gave: the
    metric where less of it is better, else what it lacks to 1, or to 100 where it goes beyond 1.

    Raises ValueError for a folder that is no study, one without such runs, and a metric that is beyond 100.
    """
    return runs_of(load_run(folder))


def runs_of(run: Run) -> Runs:
    """The same of a study that was read."""
    trials = [result for result in run.trials if result.outcome is not None]
    fixed = [result for result in trials if result.trial.kind == "fixed"]
    rates = {result.trial.learning_rate for result in fixed or trials}
    rows = [(result, p) for result in trials if (p := _ratios(run, result)) is not None]
    rows = [(result, p) for result, p in rows if result.trial.learning_rate in rates]
    if len(rows) < 2:
        raise ValueError(f"{run.folder} has no two trainings under fixed weights of the losses")
    losses = {name: _losses(name, metric, rows) for name, metric in run.metrics.items()}
    return Runs(
        {
            "run": [result.trial.name for result, _ in rows],
            "seed": [result.trial.seed for result, _ in rows],
            **{f"p.{name}": [p[place] for _, p in rows] for place, name in enumerate(run.objectives)},
            **{f"loss.{name}": column for name, column in losses.items()},
        }
    )


def _ratios(run: Run, result: TrialResult) -> tuple[float, ...] | None:
    """The weights of the losses in a training, None where they were not fixed."""
    trial, m = result.trial, len(run.objectives)
    if trial.kind == "fixed":
        return trial.weights
    if trial.kind == "single":
        return tuple(float(name == trial.rule) for name in run.objectives)
    return (1 / m,) * m if trial.kind == "rule" and trial.rule == YARDSTICK else None


def _losses(name: str, metric: Metric, rows: list[tuple[TrialResult, tuple[float, ...]]]) -> list[float]:
    values = np.array([_value(result, name) for result, _ in rows])
    if metric.better == "lower":
        return values.tolist()
    known = values[np.isfinite(values)]
    top = 1.0 if known.max(initial=0.0) <= 1 else 100.0
    if known.max(initial=0.0) > top:
        raise ValueError(f"{metric.name} of {name!r} goes beyond 100; it cannot be made a loss")
    # an objective without a single error would have no logarithm
    return np.maximum(top - values, 1e-3 * top).tolist()


def _value(result: TrialResult, name: str) -> float:
    outcome: Mapping[str, float] = {} if result.outcome is None else result.outcome.validation
    return float(outcome.get(name, np.nan))
