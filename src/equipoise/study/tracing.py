"""Tracing one front as a trial of a study, in whatever process it happens to run."""

import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path

import torch

from equipoise.core.front import Front
from equipoise.core.problem import Problem
from equipoise.study.landscapes import landscape
from equipoise.study.loop import seed_all
from equipoise.study.results import Trial
from equipoise.study.roster import build_solver
from equipoise.study.specification import Specification
from equipoise.study.store import Record, metrics_file

POINTS = 11
"""Trainings that the default budget is worth."""


def trace(specification: Specification, problem: Problem, steps: int, trial: Trial) -> Record:
    """Trace a front and tell how it went; never raises Exception.

    The points kept are on test data, with those on validation data in `record["validation"]`. `steps` are
    those of one training, of which the default budget is worth eleven.
    """
    started, seconds = time.perf_counter(), 0.0
    budget = POINTS * steps if specification.budget is None else specification.budget
    try:
        seed_all(trial.seed)
        solver = build_solver(trial.rule, specification.points)
        front = solver.trace(
            landscape(problem, "validation"),
            budget=budget,
            learning_rate=trial.learning_rate,
            seed=trial.seed,
        )
        seconds = time.perf_counter() - started
        content = _bytes(_judged(front, specification, problem, trial.seed))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        metrics = metrics_file(trial, (), 0, failed=reason)
        return Record(trial, reason, metrics, {"seconds": seconds}, error=traceback.format_exc())
    metrics = metrics_file(trial, (), int(front.record["gradients"]))
    timing = {"seconds": seconds, "seconds_with_evaluation": time.perf_counter() - started}
    return Record(trial, None, metrics, timing, front=content)


def _judged(front: Front, specification: Specification, problem: Problem, seed: int) -> Front:
    """The front with its points on the split that results are reported on."""
    record = {**front.record, "validation": front.points.tolist()}
    if specification.judged == "validation":
        return replace(front, record=record)
    there = landscape(problem, specification.judged)
    model = there.model(seed)
    points = []
    for solution in front.solutions:
        model.load_state_dict(solution)
        points.append(there.evaluate(model))
    return replace(front, points=torch.stack(points), record=record)


def _bytes(front: Front) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "front.safetensors"
        front.save(path)
        return path.read_bytes()
