"""compare: every law on one table, judged on mixtures that it has not seen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from equipoise.scaling.chinchilla import Chinchilla
from equipoise.scaling.dcpt import DCPT
from equipoise.scaling.effectivedata import EffectiveData
from equipoise.scaling.exponentialmixing import ExponentialMixing
from equipoise.scaling.familylaw import FamilyLaw
from equipoise.scaling.kaplan import Kaplan
from equipoise.scaling.law import Given, Law, folds
from equipoise.scaling.linearmixing import LinearMixing
from equipoise.scaling.owntokens import OwnTokens
from equipoise.scaling.residualtrees import ResidualTrees
from equipoise.scaling.runs import Array, Runs, as_runs

CHEAP = ("FamilyLaw", "OwnTokens", "LinearMixing", "Kaplan")
"""The hypotheses with few numbers, the first of which that can be fitted stands beside the winner."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One law: the mean absolute relative error of each loss on what was held out, or why there is none."""

    law: Law
    errors: dict[str, float]
    seconds: float
    fault: str = ""

    @property
    def overall(self) -> float:
        """The mean over losses; infinite where the law could not be fitted."""
        return float(np.mean(list(self.errors.values()))) if self.errors else float("inf")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found, from the best law on. folds: how often it was held out. noise: the seed standard
    deviation of each loss as a part of it, where there are repeats."""

    rows: tuple[Compared, ...]
    folds: int
    what: str
    noise: dict[str, float]

    @property
    def best(self) -> Law:
        """The law with the least error."""
        return self.rows[0].law

    @property
    def cheap(self) -> Compared:
        """The simplest hypothesis that could be fitted."""
        able = {row.law.name: row for row in self.rows if row.errors}
        return next(able[name] for name in (*CHEAP, self.best.name) if name in able)

    def sentence(self) -> str:
        """What to take, and what the cheap hypothesis would have said."""
        first, cheap = self.rows[0], self.cheap
        told = f"{first.law.name} foretells held-out {self.what} to {100 * first.overall:.2f}%"
        if cheap.law.name == first.law.name:
            return f"{told}; no law with more numbers does better."
        return f"{told}, {cheap.law.name}, the cheap hypothesis, to {100 * cheap.overall:.2f}%."

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        rows = [
            {
                "law": row.law.name,
                "error": row.overall if row.errors else None,
                "fault": row.fault,
                "losses": row.errors,
            }
            for row in self.rows
        ]
        return {"laws": rows, "noise": self.noise, "folds": self.folds, "sentence": self.sentence()}

    def __str__(self) -> str:
        lines = [f"{'law':20} {'error':>8}  {'worst loss':>22}  seconds"]
        for row in self.rows:
            if not row.errors:
                lines.append(f"{row.law.name:20} {'-':>8}  {row.fault}")
                continue
            worst = max(row.errors, key=row.errors.__getitem__)
            cell = f"{worst} {100 * row.errors[worst]:.2f}%"
            lines.append(f"{row.law.name:20} {100 * row.overall:7.2f}%  {cell:>22}  {row.seconds:.1f}")
        noise = f"{100 * np.mean(list(self.noise.values())):.2f}%" if self.noise else "unknown: no repeats"
        return "\n".join([*lines, f"seed noise {noise}; {self.folds} folds", self.sentence()])


def compare(runs: Given, *, laws: Iterable[Law] | None = None, count: int = 5) -> Comparison:
    """Rank the laws by what a fit to four fifths of the mixtures (of runs, without) says of the rest.

    laws: by default all that look at a mixture, or at N and D, whichever the table has. A law that cannot be
    fitted stands at the end with its reason.

    Raises ValueError where no law can be fitted, or there are fewer than two mixtures (runs).
    """
    runs = as_runs(runs)
    groups, what = (runs.mixtures, "mixtures") if runs.sources else (np.arange(len(runs)), "runs")
    kinds = len(np.unique(groups))
    if kinds < 2:
        raise ValueError(f"{kinds} {what}; to compare laws takes two or more")
    count = min(count, kinds)
    fold = folds(groups, count)
    rows = [_compared(law, runs, fold, count) for law in (laws or usual(runs))]
    if not any(row.errors for row in rows):
        raise ValueError("no law can be fitted. " + "; ".join(f"{row.law.name}: {row.fault}" for row in rows))
    return Comparison(tuple(sorted(rows, key=lambda row: row.overall)), count, what, runs.seed_sd())


def usual(runs: Runs) -> Sequence[Law]:
    """The laws that look at what a table has."""
    if not runs.sources:
        return (Chinchilla(), Kaplan())
    found: list[Law] = [EffectiveData(), ExponentialMixing(), LinearMixing(), ResidualTrees()]
    if all(name in runs.sources for name in runs.objectives):
        found += [FamilyLaw(), OwnTokens()]
        if runs.features.N is not None and runs.features.D is not None:
            found.append(DCPT())
    return found


def _compared(law: Law, runs: Runs, fold: Array, count: int) -> Compared:
    began, parts = perf_counter(), {name: [] for name in runs.objectives}
    try:
        for number in range(count):
            found = law.fit(runs.take(fold != number), holdout="none")
            for name, errors in found.errors(runs.take(fold == number)).items():
                parts[name].extend(np.abs(errors).tolist())
    except ValueError as error:
        return Compared(law, {}, perf_counter() - began, str(error))
    errors = {name: float(np.mean(part)) for name, part in parts.items() if part}
    return Compared(law, errors, perf_counter() - began)
