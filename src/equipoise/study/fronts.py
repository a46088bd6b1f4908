"""Fronts: every solver's front of a study, compared in one box at its chosen learning rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from equipoise.core import indicators
from equipoise.core.front import Front
from equipoise.core.indicators import MARGIN
from equipoise.study.analysis import Spread
from equipoise.study.finite import finite
from equipoise.study.landscapes import AnalyticProblem
from equipoise.study.results import Trial, TrialResult
from equipoise.study.specification import Specification
from equipoise.study.store import Store
from equipoise.study.verdict import factors

WITHIN = 0.05
KNOWN = 500  # points of a front in closed form


@dataclass(frozen=True, slots=True)
class Row:
    """One solver at its chosen learning rate: what its fronts are worth, over seeds.

    hypervolume is the share of the box that they dominate; igd_plus and coverage (within 0.05) are against
    the reference front, in the box's units; gap is the mean over solutions of the length of the min-norm
    point over that of the mean gradient, 0 where all are (weakly) stationary, None for one objective.
    validation is the volume on validation data that chose the learning rate; fronts hold no solutions.
    """

    solver: str
    learning_rate: float
    edge: str
    hypervolume: Spread
    igd_plus: Spread
    coverage: Spread
    gap: Spread | None
    solutions: Spread
    gradients: int
    seconds: float
    validation: float
    failed: int
    volumes: Mapping[int, float]  # by seed
    fronts: Mapping[int, Front]  # by seed


@dataclass(frozen=True, slots=True)
class Fronts:
    """All that a study of fronts found. `ideal` and `reference` (m,) are the ends of the box."""

    specification: Specification
    folder: Path
    rows: tuple[Row, ...]
    failures: tuple[TrialResult, ...]
    ideal: np.ndarray
    reference: np.ndarray
    known: np.ndarray | None  # (k, m), the true front; where there is none the best points found stand for it
    planned: int
    ended: int

    def leads(self) -> bool:
        """Whether the first solver dominates more than every other beyond chance: paired differences over the
        seeds of both, by Student's interval at 95%, widened to hold for all pairs of solvers at once."""
        first, *others = self.rows
        pairs = len(self.rows) * (len(self.rows) - 1) // 2
        return bool(others) and all(_ahead(first, other, pairs) for other in others)

    def best(self) -> Front:
        """What one solver found over all seeds, with its solutions. Validation data choose the solver, and
        those of its solutions that none dominates there."""
        row = max(self.rows, key=lambda row: row.validation)
        store = Store(self.folder)
        trials = [Trial("front", row.solver, row.learning_rate, seed) for seed in sorted(row.fronts)]
        first, *others = (store.read_front(trial) for trial in trials)
        for other in others:
            first = first.join(other)
        kept = indicators.nondominated(np.array(first.record["validation"]))
        return first.subset(kept.nonzero()[0].tolist())


def gather(folder: Path) -> Fronts:
    """Choose each solver's learning rate on validation data, and measure its fronts on those that are judged.

    The reference front is the known one of an analytic landscape, else the non-dominated points of all
    solvers together. Raises ValueError where no front was traced.
    """
    store = Store(folder)
    specification, results = store.specification(), store.results()
    done = [result for result in results if result.failed is None]
    failures = tuple(result for result in results if result.failed is not None)
    if not done:
        why = f": {failures[0].failed}" if failures else ""
        raise ValueError(f"no front was traced in {folder}{why}")
    fronts = {result.trial: store.read_front(result.trial, solutions=False) for result in done}
    chosen = _choose(specification, fronts)
    kept = [front for trial, front in fronts.items() if chosen[trial.rule][0] == trial.learning_rate]
    points = np.concatenate([front.points.numpy() for front in kept])
    problem = specification.build_problem()
    known = _known(problem)
    target = points[indicators.nondominated(points)] if known is None else known
    ideal = target.min(0)
    reach = np.where(target.max(0) > ideal, target.max(0) - ideal, np.maximum(np.abs(ideal), 1e-12))
    rows = []
    for solver, (rate, validation) in chosen.items():
        mine = {t.seed: f for t, f in fronts.items() if t.rule == solver and t.learning_rate == rate}
        end = _edge(rate, specification.learning_rates)
        failed = len(specification.seeds) - len(mine)
        rows.append(_row(solver, rate, end, validation, failed, mine, target, ideal, reach))
    rows.sort(key=lambda row: (row.failed, -row.hypervolume.mean))
    reference = ideal + (1 + MARGIN) * reach
    planned = len(specification.solvers) * len(specification.learning_rates) * len(specification.seeds)
    return Fronts(
        specification=specification,
        folder=folder,
        rows=tuple(rows),
        failures=failures,
        ideal=ideal,
        reference=reference,
        known=known,
        planned=planned,
        ended=len(results),
    )


def content(found: Fronts) -> dict[str, Any]:
    """The study as JSON can hold it, with the gap of each solution."""
    return finite(
        {
            "problem": found.specification.problem,
            "objectives": list(found.specification.objectives),
            "reference_front": "known" if found.known is not None else "the best of all points found",
            "ideal": found.ideal.tolist(),
            "reference": found.reference.tolist(),
            "solvers": [
                {
                    "solver": row.solver,
                    "learning_rate": row.learning_rate,
                    "edge": row.edge or None,
                    "hypervolume": _spread(row.hypervolume),
                    "igd_plus": _spread(row.igd_plus),
                    "coverage": _spread(row.coverage),
                    "gap": row.gap and _spread(row.gap),
                    "solutions": _spread(row.solutions),
                    "gradients": row.gradients,
                    "seconds": row.seconds,
                    "seeds_failed": row.failed,
                    "fronts": [
                        {
                            "seed": seed,
                            "points": front.points.tolist(),
                            "gaps": list(front.record.get("gaps", ())),
                        }
                        for seed, front in sorted(row.fronts.items())
                    ],
                }
                for row in found.rows
            ],
            "failed": [f"{r.trial.name}: {r.failed}" for r in found.failures],
            "folder": str(found.folder),
        }
    )


def _choose(specification: Specification, fronts: Mapping[Any, Front]) -> dict[str, tuple[float, float]]:
    """Each solver's learning rate, and its volume: most seeds traced, then the largest mean volume on
    validation data."""
    validation = {trial: np.array(front.record["validation"]) for trial, front in fronts.items()}
    every = np.concatenate(list(validation.values()))
    target = every[indicators.nondominated(every)]
    reference = indicators.beyond(target)
    chosen = {}
    for solver in specification.solvers:
        ranked = []
        for rate in sorted(specification.learning_rates):
            mine = [p for t, p in validation.items() if t.rule == solver and t.learning_rate == rate]
            if mine:
                volume = fmean(indicators.hypervolume(points, reference) for points in mine)
                ranked.append((len(mine), volume, -rate))
        if ranked:
            _, volume, rate = max(ranked)
            chosen[solver] = -rate, volume
    return chosen


def _known(problem: Any) -> np.ndarray | None:
    """The points of a front in closed form, where the problem has one."""
    if not isinstance(problem, AnalyticProblem):
        return None
    try:
        return problem.landscape.front(KNOWN).numpy()
    except ValueError:
        return None


def _row(
    solver: str,
    rate: float,
    edge: str,
    validation: float,
    failed: int,
    fronts: Mapping[int, Front],
    target: np.ndarray,
    ideal: np.ndarray,
    reach: np.ndarray,
) -> Row:
    target, box = (target - ideal) / reach, np.full(len(ideal), 1 + MARGIN)
    inside = [(front.points.numpy() - ideal) / reach for front in fronts.values()]
    volumes = [indicators.hypervolume(points, box) / box.prod() for points in inside]
    gaps = [fmean(front.record["gaps"]) for front in fronts.values() if front.record.get("gaps")]
    return Row(
        solver=solver,
        learning_rate=rate,
        edge=edge,
        hypervolume=_over(volumes),
        igd_plus=_over(indicators.igd_plus(points, target) for points in inside),
        coverage=_over(indicators.coverage(points, target, WITHIN) for points in inside),
        gap=Spread.of(gaps),
        solutions=_over(float(indicators.nondominated(points).sum()) for points in inside),
        gradients=max(int(front.record["gradients"]) for front in fronts.values()),
        seconds=fmean(float(front.record["seconds"]) for front in fronts.values()),
        validation=validation,
        failed=failed,
        volumes=dict(zip(fronts, volumes, strict=True)),
        fronts=fronts,
    )


def _ahead(first: Row, other: Row, pairs: int) -> bool:
    differences = [volume - other.volumes[s] for s, volume in first.volumes.items() if s in other.volumes]
    if len(differences) < 2 or first.failed > other.failed:
        return False
    return fmean(differences) > factors(len(differences), pairs, 0.95)[0] * stdev(differences)


def _edge(rate: float, grid: Sequence[float]) -> str:
    return {min(grid): "smallest", max(grid): "largest"}.get(rate, "") if len(grid) > 1 else ""


def _over(values: Any) -> Spread:
    spread = Spread.of(values)
    assert spread is not None
    return spread


def _spread(value: Spread) -> dict[str, Any]:
    return {"mean": value.mean, "deviation": value.deviation, "seeds": value.count}
