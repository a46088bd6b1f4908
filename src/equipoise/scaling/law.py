"""Law: what a loss is of parameters, tokens and mixture; a subclass says the form, and whom it suits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from equipoise.core.checks import check_count, check_positive
from equipoise.core.errors import check_choice
from equipoise.scaling.fittedlaw import FittedLaw, Holdout, Used
from equipoise.scaling.form import Form
from equipoise.scaling.runs import Array, Features, Runs, as_runs
from equipoise.scaling.single import FormSingle, Single, fit_form

Given = Runs | Mapping[str, Iterable[Any]] | str | Path
Held = Literal["largest", "mixtures", "none"]
LEAST = 5
"""Rows, or mixtures, below which nothing is held out."""


@dataclass(frozen=True)
class Law:
    """A law of losses, to be fitted to a table of runs.

    Each loss is fitted on its own: the sum over rows of the Huber loss of log predicted less log observed is
    minimised, from all starts of a grid with the best amplitudes for each (variable projection), the best
    five of which race to the end. `delta` is where the Huber loss turns from squares to sizes, as
    a part of the loss; None takes the seed noise, where the table has repeats, within 0.001 and 0.03, else
    `usual`.

    A subclass gives `form`; `owned` says that each loss must have a source of its own name.
    """

    delta: float | None = None
    owned: ClassVar[bool] = False
    usual: ClassVar[float] = 1e-3

    def __post_init__(self) -> None:
        if self.delta is not None:
            check_positive(delta=self.delta)

    def form(self, x: Features, own: int) -> Form:
        """The form of one loss, whose own source is `own`, -1 for none."""
        raise NotImplementedError

    def usable(self, x: Features, own: int) -> Array:  # -> (n,) bool
        """The rows that the form can take: where the law is `owned`, those with any of the own source."""
        return x.need("p", self.name)[:, own] > 0 if self.owned else np.ones(x.count, dtype=bool)

    def single(self, x: Features, y: Array, own: int, *, delta: float, weights: Array) -> Single:
        """The fit of one loss, with refits under `weights` (B, n)."""
        return fit_form(self.form(x, own), x, y, delta=delta, weights=weights)

    def restored(self, x: Features, y: Array, own: int, held: Mapping[str, Any]) -> Single:
        """The fit of one loss from what its `plain` gave, without fitting."""
        theta, refits, shares = (np.array(held[name]) for name in ("theta", "refits", "shares"))
        return FormSingle(
            self.form(x, own),
            theta,
            float(held["objective"]),
            refits.reshape(-1, len(theta)),
            float(held["least"]),
            shares,
        )

    def options(self) -> dict[str, Any]:
        """Its options as plain values; a law among them as {"law": name, "options": ...}."""
        found = {part.name: getattr(self, part.name) for part in fields(self)}
        return {
            name: {"law": value.name, "options": value.options()} if isinstance(value, Law) else value
            for name, value in found.items()
        }

    def fit(
        self,
        runs: Given,
        *,
        bootstrap: int = 0,
        holdout: Held = "largest",
        highest: int = 0,
        seed: int = 0,
    ) -> FittedLaw:
        """Fit every loss of a table.

        runs: a `Runs`, a mapping of columns or DataFrame, or the path of a CSV. bootstrap: refits to runs
        drawn anew (whole runs, by the column "run"), for intervals. holdout: what a fit to the rest is judged
        by first, "largest" D (or N, or a fifth of the mixtures where neither varies), "mixtures", or "none";
        the law that comes back is fitted to all. highest: how many of the highest losses are left out of the
        fit of each loss, as the published refit of Chinchilla does with 5.

        Raises ValueError for a column that the law needs and the table lacks, a loss without a source of its
        name where the law needs one, and too few runs.
        """
        runs = as_runs(runs)
        check_count(0, bootstrap=bootstrap, highest=highest)
        check_choice("holdout", holdout, ("largest", "mixtures", "none"))
        held, rows = held_out(runs, holdout)
        judged = None
        if rows is not None:
            rest = self._fitted(runs.take(~rows), 0, highest, seed)
            judged = Holdout(held, int(rows.sum()), rest.errors(runs.take(rows)))
        return replace(self._fitted(runs, bootstrap, highest, seed), holdout=judged)

    def _fitted(self, runs: Runs, bootstrap: int, highest: int, seed: int) -> FittedLaw:
        noise, singles, used = runs.seed_sd(), {}, {}
        for objective in runs.objectives:
            own = self.own_of(runs, objective)
            y, x = runs.loss(objective), runs.features
            keep = np.isfinite(y) & self.usable(x, own)
            if highest:
                keep &= y < np.sort(y[keep])[-highest]
            rows = np.flatnonzero(keep)
            if len(rows) < 3:
                raise ValueError(
                    f"{self.name}: {len(rows)} runs can be used for {objective!r}; it takes 3 or more"
                )
            delta = self.delta or min(max(noise.get(objective, self.usual), 1e-3), 0.03)
            weights = resampled([runs.run[i] for i in rows], bootstrap, seed)
            singles[objective] = self.single(x.take(rows), y[rows], own, delta=delta, weights=weights)
            used[objective] = Used(rows, delta)
        return FittedLaw(self, runs, singles, used)

    def own_of(self, runs: Runs, objective: str) -> int:
        """The place of the source of this name, -1 where there is none."""
        if objective in runs.sources:
            return runs.sources.index(objective)
        if self.owned and runs.sources:
            raise ValueError(
                f"{self.name} needs a source of the name of each loss; {objective!r} is none of "
                f"{', '.join(runs.sources)}"
            )
        return -1

    @property
    def name(self) -> str:
        """Its name."""
        return type(self).__name__


def held_out(runs: Runs, how: Held) -> tuple[str, Array | None]:
    """What is held out, in words and as rows (n,); None where nothing is, or too little would be left."""
    if how == "largest":
        for name, column in (("D", runs.features.D), ("N", runs.features.N)):
            if column is not None and np.ptp(column) > 0:
                rows = column >= np.quantile(column, 0.8, method="higher")
                if len(rows) - rows.sum() >= max(LEAST, 0.5 * len(rows)):
                    return f"the largest {name}", rows
        how = "mixtures"
    if how == "mixtures" and len(np.unique(runs.mixtures)) >= LEAST:
        return "a fifth of the mixtures", folds(runs.mixtures, 5) == 0
    return "nothing", None


def folds(groups: Array, count: int) -> Array:  # (n,) -> (n,)
    """A fold for each row, rows of one group in one fold, folds drawn in a fixed order."""
    kinds = np.unique(groups)
    order = np.random.default_rng(0).permutation(len(kinds))
    return (order % count)[np.searchsorted(kinds, groups)]


def resampled(runs: list[str], count: int, seed: int) -> Array:  # -> (count, n)
    """How often each row is there when whole runs are drawn with replacement."""
    names, place = np.unique(runs, return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), count)
    return draws[:, place].astype(float)
