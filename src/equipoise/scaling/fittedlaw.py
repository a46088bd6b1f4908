"""FittedLaw: a law with its coefficients, and what can be asked of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from equipoise.core.atomic import write
from equipoise.core.errors import unknown
from equipoise.scaling.runs import Array, Features, Runs
from equipoise.scaling.single import Single

if TYPE_CHECKING:
    from equipoise.core.front import Front
    from equipoise.scaling.law import Law
    from equipoise.scaling.optimum import Mixture


FORMAT = "equipoise law 1"
"""What a saved law begins with."""


@dataclass(frozen=True, slots=True)
class Holdout:
    """How a fit to the rest foretold what was held out: relative errors of each loss, in rows."""

    what: str
    rows: int
    errors: Mapping[str, Array]

    @property
    def mean(self) -> dict[str, float]:
        """The mean absolute relative error of each loss."""
        return {
            name: float(np.mean(np.abs(part))) if len(part) else float("nan")
            for name, part in self.errors.items()
        }

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        errors = {name: part.tolist() for name, part in self.errors.items()}
        return {"what": self.what, "rows": self.rows, "mean": self.mean, "errors": errors}

    @property
    def overall(self) -> float:
        """The mean over all losses."""
        return float(np.nanmean(list(self.mean.values())))


@dataclass(frozen=True, slots=True)
class Used:
    """What one loss was fitted to: rows (n,) of the table, and delta of the Huber loss."""

    rows: Array
    delta: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """Losses (n, m) by the names of `objectives`, and 95% bounds, None without refits."""

    objectives: tuple[str, ...]
    losses: Array
    low: Array | None = None
    high: Array | None = None

    def __getitem__(self, objective: str) -> Array:
        return self.losses[:, self.objectives.index(objective)]


@dataclass(frozen=True, eq=False)
class FittedLaw:
    """A law that was fitted to runs.

    law: what it is. runs: the table. singles: the fit of each loss. used: what each was fitted to. holdout:
    how it did on runs that it had not seen, None where none were held out.
    """

    law: "Law"
    runs: Runs
    singles: Mapping[str, Single]
    used: Mapping[str, Used]
    holdout: Holdout | None = None

    @property
    def objectives(self) -> tuple[str, ...]:
        """The names of the losses."""
        return tuple(self.singles)

    def coefficients(self, objective: str | None = None) -> dict[str, float]:
        """The parameters of one loss under the paper's names; the loss may be left out where there is one."""
        return dict(self._single(objective).coefficients)

    def spread(self, objective: str | None = None) -> dict[str, float]:
        """Their standard deviations over the refits; empty without."""
        return self._single(objective).spread()

    def flags(self) -> list[str]:
        """What the runs do not tell, loss by loss."""
        return [f"{name}: {flag}" for name, single in self.singles.items() for flag in single.flags()]

    def predict(
        self,
        N: float | Sequence[float] | None = None,
        D: float | Sequence[float] | None = None,
        p: Mapping[str, float] | Sequence[float] | Array | None = None,
        **other: float | Sequence[float],
    ) -> Prediction:
        """Losses at N parameters, D tokens and a mixture, or at n of each.

        p: {source: ratio}, those that are not named 0, or (k,) or (n, k) in the order of the sources. What is
        left out is that of the runs where all have the same.

        Raises ValueError for a source that there is not, ratios that are no mixture, and where something is
        left out that varies among the runs.
        """
        return self.predicted(self.features(N, D, p, **other))

    def features(self, N: Any = None, D: Any = None, p: Any = None, **other: Any) -> Features:
        """What is asked about, as the law looks at it."""
        known = self.runs.features
        mixture = None if known.p is None else self._mixture(p)
        if p is not None and known.p is None:
            raise ValueError("the runs had no mixture; leave p out")
        columns = {"N": self._column("N", N, known.N), "D": self._column("D", D, known.D), "p": mixture}
        more = {name: self._column(name, given, None) for name, given in other.items() if name in known.other}
        given = {name: c for name, c in {**columns, **more}.items() if c is not None}
        count = max([1, *map(len, given.values())])
        for name, c in given.items():
            if len(c) not in (1, count):
                raise ValueError(f"{name} has {len(c)} values where another has {count}")
        spread = {name: np.broadcast_to(c, (count, *c.shape[1:])) for name, c in given.items()}
        unique = None if known.U is None else np.broadcast_to(known.U[0], (count, known.U.shape[1]))
        rest = {name: spread.pop(name) for name in more}
        return Features(count, U=unique, sources=known.sources, other=rest, **spread)

    def predicted(self, x: Features) -> Prediction:
        """Losses for a table of features."""
        losses = np.stack([single.predict(x) for single in self.singles.values()], 1)
        draws = [single.draws(x) for single in self.singles.values()]
        if not all(len(part) for part in draws):
            return Prediction(self.objectives, losses)
        bounds = np.quantile(np.stack(draws, 2), (0.025, 0.975), axis=0)
        return Prediction(self.objectives, losses, bounds[0], bounds[1])

    def errors(self, runs: Runs) -> dict[str, Array]:
        """Relative errors, predicted over observed less 1, of other runs, those that can be predicted."""
        found = {}
        for objective, single in self.singles.items():
            y = runs.loss(objective)
            keep = np.isfinite(y) & self.law.usable(runs.features, self.law.own_of(runs, objective))
            rows = np.flatnonzero(keep)
            found[objective] = single.predict(runs.features.take(rows)) / y[rows] - 1
        return found

    def invert(self, loss: Mapping[str, float] | float, solve: str = "D", **others: Any) -> dict[str, float]:
        """The N or D at which each loss reaches a value, the rest as for `predict`; infinite where it never
        does.

        loss: {objective: value}, or a number where there is one loss. Sought between a thousandth of the
        least and a million times the largest of the runs.

        Raises ValueError for a loss that there is not, and for a law that does not look at `solve`.
        """
        wanted = dict(loss) if isinstance(loss, Mapping) else {self._only(): float(loss)}
        column = getattr(self.runs.features, solve, None) if solve in ("N", "D") else None
        if column is None:
            raise ValueError(f"solve is {solve!r}; the runs have no such column to solve for")
        found = {}
        for objective, value in wanted.items():
            single = self._single(objective)
            low, high = np.log(column.min() / 1e3), np.log(column.max() * 1e6)

            def at(log: float, single: Single = single) -> float:
                return float(single.predict(self.features(**others, **{solve: np.exp(log)}))[0])

            if at(high) > value:
                found[objective] = float("inf")
                continue
            for _ in range(200):
                middle = (low + high) / 2
                low, high = (middle, high) if at(middle) > value else (low, middle)
            found[objective] = float(np.exp(high))
        return found

    def optimum(self, weights: Mapping[str, float] | None = None, **options: Any) -> "Mixture":
        """The mixture that it holds best, as the function `optimum` says."""
        from equipoise.scaling.optimum import optimum  # which looks at fitted laws

        return optimum(self, weights, **options)

    def front(self, count: int = 21, **options: Any) -> "Front":
        """The trade-offs between losses that it foretells, as the function `front` says."""
        from equipoise.scaling.mixturefront import front  # which looks at fitted laws

        return front(self, count, **options)

    def report(self) -> str:
        """Coefficients, held-out errors and flags, and the runs that say most; `write_report` draws it."""
        from equipoise.scaling.influence import influence  # which looks at fitted laws

        try:
            told = [str(found) for found in influence(self).values()]
        except ValueError:
            told = []
        return "\n".join([str(self), *told])

    def plain(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        held = self.holdout
        return {
            "law": self.law.name,
            "options": self.law.options(),
            "rows": {name: len(used.rows) for name, used in self.used.items()},
            "delta": {name: used.delta for name, used in self.used.items()},
            "losses": {name: single.plain() for name, single in self.singles.items()},
            "flags": self.flags(),
            "holdout": None if held is None else held.plain(),
        }

    def save(self, path: str | Path) -> None:
        """Write the law and the runs that it was fitted to as JSON, atomically; `load_law` reads it."""
        kept = {name: used.rows.tolist() for name, used in self.used.items()}
        whole = {"format": FORMAT, **self.plain(), "kept": kept, "runs": self.runs.columns()}
        write(Path(path), json.dumps(whole, indent=1) + "\n")

    def __str__(self) -> str:
        lines = [f"{self.law.name}, {len(self.runs)} rows"]
        for objective in self.objectives:
            spread = self.spread(objective)
            parts = [
                f"{name} {value:.4g}" + (f" ± {spread[name]:.2g}" if name in spread else "")
                for name, value in self.coefficients(objective).items()
            ]
            lines.append(f"  {objective}: {', '.join(parts)}")
        if self.holdout is not None:
            lines.append(f"  held out, {self.holdout.what}: {100 * self.holdout.overall:.2f}% mean error")
        return "\n".join([*lines, *(f"  note: {flag}" for flag in self.flags())])

    def _single(self, objective: str | None) -> Single:
        name = self._only() if objective is None else objective
        if name not in self.singles:
            raise ValueError(unknown("objective", name, self.singles))
        return self.singles[name]

    def _only(self) -> str:
        if len(self.singles) != 1:
            raise ValueError(f"there are {len(self.singles)} losses; name one of {', '.join(self.singles)}")
        return self.objectives[0]

    def _column(self, name: str, given: Any, known: Array | None) -> Array | None:
        if given is not None:
            found = np.atleast_1d(np.asarray(given, dtype=float))
            if not (found > 0).all():
                raise ValueError(f"{name} is {given}; it is above 0")
            return found
        if known is None:
            return None
        if np.ptp(known) > 0:
            raise ValueError(f"{name} is left out, and differs among the runs; say which")
        return known[:1]

    def _mixture(self, given: Any) -> Array:
        names = self.runs.sources
        if given is None:
            held = self.runs.features.p
            assert held is not None
            if np.ptp(held, axis=0).max() > 0:
                raise ValueError("p is left out, and differs among the runs; say which")
            return held[:1]
        if isinstance(given, Mapping):
            for name in given:
                if name not in names:
                    raise ValueError(unknown("source", name, names))
            given = [given.get(name, 0.0) for name in names]
        found = np.atleast_2d(np.asarray(given, dtype=float))
        if found.shape[1] != len(names):
            raise ValueError(f"p has {found.shape[1]} ratios; the sources are {', '.join(names)}")
        if not ((found >= 0).all() and np.abs(found.sum(1) - 1).max() < 1e-6):
            raise ValueError(f"p is {found[0].tolist()}; ratios are 0 or more and sum to 1")
        return found
