"""Solutions: every trained model as a point of test metrics, the front among them, and its volume."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import moocore
import numpy as np

from equipoise.core.indicators import MARGIN
from equipoise.study.results import Outcome, Run, TrialResult
from equipoise.study.scoring import Choice, Key, sign, usable

VARIANTS = {"last": "last iterate", "uniform": "uniform average"}
MOST_OBJECTIVES = 10  # beyond which the volume of several points takes too long


@dataclass(frozen=True, slots=True)
class Point:
    """One solution: test metrics in the order of the objectives; `front` where none dominates it."""

    kind: str  # "rule", "variant" or "fixed"
    label: str
    rule: str
    learning_rate: float
    seed: int
    weights: tuple[float, ...] | None
    values: tuple[float, ...]
    chosen: bool  # at the learning rate chosen on validation data
    front: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    """The part of the metric space in which volumes are measured, from the best value of each
    objective to the reference point, both in the units of the metrics; `signs` as in `scoring`."""

    objectives: tuple[str, ...]
    signs: np.ndarray  # (m,)
    best: np.ndarray  # (m,)
    reference: np.ndarray  # (m,)

    def share(self, outcomes: Sequence[Outcome]) -> float | None:
        """The share of the box that the test metrics of some solutions dominate together."""
        values = np.array([[o.test[k] for k in self.objectives] for o in outcomes])  # (n, m)
        costs = np.clip((values - self.best) / (self.reference - self.best), 0.0, 1.0)  # 1 is the reference
        costs = costs[nondominated(costs)]
        if len(costs) == 1:
            return float(np.prod(1 - costs[0]))
        if len(self.objectives) > MOST_OBJECTIVES:
            return None
        return float(moocore.hypervolume(costs, ref=[1.0] * len(self.objectives)))


def nondominated(costs: np.ndarray) -> np.ndarray:  # (n, m) -> (n,) bool
    """Which points no other dominates, where lower is better; equal points do not dominate each other.

    >>> nondominated(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])).tolist()
    [True, True, False, True]
    """
    if costs.shape[1] == 1:
        return costs[:, 0] == costs.min()
    return np.asarray(moocore.is_nondominated(costs, keep_weakly=True), dtype=bool)


def variant_label(rule: str, variant: str) -> str:
    """The name of a further solution of the same training: 'AdaOMDTchebycheff (last iterate)'."""
    return f"{rule} ({VARIANTS.get(variant, variant)})"


def points(run: Run, chosen: Mapping[Key, Choice]) -> tuple[Point, ...]:
    """Every solution of a run that trains all objectives: rules, their variants, fixed weightings."""
    ended = [r for r in run.trials if r.trial.kind != "single" and usable(r.outcome)]
    found = [p for r in ended for p in _of(r, run, chosen)]
    if not found:
        return ()
    costs = -np.array([p.values for p in found]) * _signs(run)
    return tuple(replace(p, front=bool(f)) for p, f in zip(found, nondominated(costs), strict=True))


def box(run: Run, found: Iterable[Point]) -> Box | None:
    """The box around the solutions at chosen learning rates; None where there are none."""
    signs = _signs(run)
    values = [p.values for p in found if p.chosen]
    if not values:
        return None
    costs = -np.array(values) * signs
    best, worst = costs.min(0), costs.max(0)
    reach = np.where(worst > best, worst - best, np.maximum(np.abs(worst), 1e-12))
    return Box(run.objectives, signs, -best * signs, -(worst + MARGIN * reach) * signs)


def _signs(run: Run) -> np.ndarray:
    return np.array([float(sign(run.metrics[k])) for k in run.objectives])


def _of(result: TrialResult, run: Run, chosen: Mapping[Key, Choice]) -> list[Point]:
    trial = result.trial
    choice = chosen[trial.kind, trial.rule, trial.weights]
    outcomes = {"": result.outcome, **result.variants}
    labels = {v: variant_label(trial.rule, v) if v else trial.rule for v in outcomes}
    return [
        Point(
            kind="variant" if variant else trial.kind,
            label="Fixed weights" if trial.kind == "fixed" else labels[variant],
            rule=trial.rule,
            learning_rate=trial.learning_rate,
            seed=trial.seed,
            weights=trial.weights,
            values=tuple(float(outcome.test[k]) for k in run.objectives),
            chosen=choice.learning_rate == trial.learning_rate,
        )
        for variant, outcome in outcomes.items()
        if outcome is not None and usable(outcome)
    ]
