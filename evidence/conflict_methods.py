"""Every rule against the mean, and against the best fixed weighting of a sweep with the same budget.

Many papers report that their rule beats equal weights. Kurin et al. (NeurIPS 2022, arXiv 2201.04122, "In
Defense of the Unitary Scalarization for Deep Multi-Task Learning") and Xin et al. (NeurIPS 2022, arXiv
2209.11379, "Do Current Multi-Task Optimization Methods in Deep Learning Even Help?") find that none beats a
tuned sum. Three problems; each rule has the same learning rates on the same seeds, and the sweep as many
configurations as a rule. What is chosen is chosen on validation data, what is shown is of test data. The
score is the average gain over training each objective alone, in points.

(a) On each problem some rule beats the mean.
(b) On each problem some rule beats the best fixed weighting.
(c) On each problem the best fixed weighting beats the mean.

The intervals of (a) and (b) are Student's of paired differences, widened to hold for all rules at once; each
is that of the rule with the largest mean difference, among those that failed on no seed. A first run with the
rates 0.03, 0.1 and 0.3 alone was stopped after two problems: on sarcos half of the rules chose the smallest.

On adult the score says little: a model that gives everybody one class loses a tenth of the accuracy and has
perfect parity, which is the best score that most rules find, at the smallest rate. A front tells more there.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from _experiment import Claim, Interval, Table, Verdict, interval, run, spread, verdict

from equipoise.study.analysis import BASELINE, Analysis, Row, analyse
from equipoise.study.runner import run_study
from equipoise.study.specification import specify
from equipoise.study.verdict import factors

RECORDED: dict[str, Verdict] = {"a": "inconclusive", "b": "inconclusive", "c": "inconclusive"}


@dataclass(frozen=True)
class Setting:
    """A problem as it is trained here."""

    problem: str
    steps: int
    rates: tuple[float, ...]
    options: Mapping[str, object]


SETTINGS = (
    Setting("sarcos", 300, (0.005, 0.02, 0.08, 0.3), {}),
    Setting("adult", 300, (0.005, 0.02, 0.08, 0.3), {}),
    Setting("mnist-pairs", 200, (0.02, 0.08, 0.3), {"judged": 2_000, "channels": 4, "width": 32}),
)
QUICK = (Setting("digits-pairs", 4, (0.1,), {"pairs": 320, "judged": 200}),)


def experiment(fast: bool) -> Iterator[Table | Claim]:
    above_mean: dict[str, Interval] = {}
    above_fixed: dict[str, Interval] = {}
    fixed_above_mean: dict[str, Interval] = {}
    for setting in QUICK if fast else SETTINGS:
        found = analyse(_studied(setting, fast))
        fixed = next(row for row in found.rows if row.kind == "fixed")
        mean = _row(found, BASELINE)
        rules = [row for row in found.rows if row.kind == "rule" and row.label != BASELINE]
        compared = [row for row in rules if set(row.scores) >= set(mean.scores)]
        level = 1 - 0.05 / len(compared)
        yield _table(setting, found, [row for row in rules if row.scores], fixed, mean)
        for into, base in ((above_mean, mean), (above_fixed, fixed)):
            best = max(compared, key=lambda row, base=base: fmean(_paired(row, base)))
            into[f"{setting.problem}, {best.label}:"] = interval(_paired(best, base), level)
        fixed_above_mean[f"{setting.problem}:"] = interval(_paired(fixed, mean))
    yield Claim("a", "On each problem some rule beats the mean", *verdict(above_mean))
    yield Claim("b", "On each problem some rule beats the best fixed weighting", *verdict(above_fixed))
    yield Claim("c", "On each problem the best fixed weighting beats the mean", *verdict(fixed_above_mean))


def _studied(setting: Setting, fast: bool):
    """The study, in a folder that outlives an interruption: called again, it goes on."""
    asked = specify(
        setting.problem,
        rules="UPGrad,MGDA,DWA" if fast else "all",
        seeds=2 if fast else 5,
        steps=setting.steps,
        learning_rates=setting.rates,
        options=setting.options,
    )
    if fast:
        with tempfile.TemporaryDirectory() as folder:
            return run_study(asked, folder, workers=1, talk="quiet", step_seconds=0.01)
    folder = Path(os.environ.get("EQUIPOISE_RUNS", tempfile.gettempdir())) / f"conflict-{setting.problem}"
    return run_study(asked, folder, workers=int(os.environ.get("WORKERS", "2")), talk="quiet")


def _row(found: Analysis, label: str) -> Row:
    row = found.row(label)
    assert row is not None
    return row


def _paired(row: Row, base: Row) -> list[float]:
    """Differences of scores, in points, on the seeds that both have."""
    return [100 * (row.scores[seed] - base.scores[seed]) for seed in row.scores if seed in base.scores]


def _table(setting: Setting, found: Analysis, compared: list[Row], fixed: Row, mean: Row) -> Table:
    rows = [
        _line(row, found, mean, fixed, len(compared))
        for row in sorted([*compared, mean, fixed], key=lambda row: -fmean(row.scores.values()))
    ]
    objectives = len(found.run.objectives)
    return Table(
        f"{setting.problem}: {objectives} objectives, {setting.steps} steps, {len(found.run.seeds)} seeds",
        ("method", "rate", "score", "above the mean", "above fixed weights", "worst objective", "step"),
        rows,
        "score in points; intervals at 95%, widened for all rules at once; step: time over that of the mean; "
        f"fixed weights: {fixed.label}; {len(found.failures)} of {len(found.run.trials)} trials failed.",
    )


def _line(row: Row, found: Analysis, mean: Row, fixed: Row, many: int) -> tuple[str | float, ...]:
    rate = f"{row.learning_rate:g}" + (f" ({row.edge})" if row.edge else "")
    worst = f"{row.worst_objective} {100 * (row.worst or 0):+.1f}"
    step = "" if row.time is None else f"{row.time.ratio:.2f}"
    score = spread([100 * value for value in row.scores.values()], 2)
    beside = [_beside(row, base, many) for base in (mean, fixed)]
    failed = (
        f" ({len(found.run.seeds) - len(row.scores)} failed)"
        if len(row.scores) < len(found.run.seeds)
        else ""
    )
    return row.label + failed, rate, score, *beside, worst, step


def _beside(row: Row, base: Row, many: int) -> str:
    if row is base:
        return ""
    differences = _paired(row, base)
    if len(differences) < 2:
        return "one seed"
    width = factors(len(differences), many, 0.95)[0] * stdev(differences)
    return f"{fmean(differences):+.2f} ± {width:.2f}"


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
