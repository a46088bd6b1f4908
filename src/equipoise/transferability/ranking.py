"""Ranking: what every score says of the models of a pool, and how sure the order is."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from equipoise.core.atomic import write_as
from equipoise.core.errors import unknown
from equipoise.transferability.agreement import levels, weighted_tau

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Column:
    """One score, or one plain baseline, of every model; higher is better.

    kind: "score"; "probe" for a baseline that looks at the target, "static" for one that does not. values: by
    model, where there is one; `faults` says why there is none. seconds: by model, beside the pass that
    scores share. halves: (B, m) values on half-samples, NaN where there is none; None where not computed.
    """

    name: str
    kind: Literal["score", "probe", "static"]
    values: Mapping[str, float]
    faults: Mapping[str, str]
    seconds: Mapping[str, float]
    halves: Array | None = None

    def order(self) -> list[str]:
        """Models from the best on, those that are level as in the pool; without a value they are left out."""
        places = self.places()
        return sorted(places, key=places.__getitem__)

    def best(self) -> list[str]:
        """The first model, and those that are level with it within rounding."""
        order, places = self.order(), self.places()
        return [name for name in order if places[name] == places[order[0]]]

    def places(self) -> dict[str, float]:
        """The place of each model that has a value, from 1; those level within rounding share the mean."""
        found = _places(np.array([*self.values.values()], float))
        return dict(zip(self.values, found.tolist(), strict=True))

    def among(self, names: Collection[str]) -> "Column":
        """The column of some models alone, without its half-samples."""
        kept = {name: value for name, value in self.values.items() if name in names}
        return replace(self, values=kept, halves=None)


@dataclass(frozen=True, eq=False)
class Ranking:
    """What `rank` found, in plain numbers; `str` gives tables, `to_json` everything, `page` pictures.

    names: the models. columns: scores, probes, then static baselines. by: the column that decides. truth:
    fine-tuned accuracies by model, where they were given. samples: of the target. shared: seconds of the
    pass that scores share, by model.
    """

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    by: str
    truth: Mapping[str, float]
    samples: int
    shared: Mapping[str, float]

    def column(self, name: str | None = None) -> Column:
        """A column by name, by default the one that decides."""
        found = {column.name: column for column in self.columns}
        if (name or self.by) not in found:
            raise ValueError(unknown("column", name or self.by, found))
        return found[name or self.by]

    def order(self, name: str | None = None) -> list[str]:
        """Models from the best on, by a column, by default the one that decides."""
        return self.column(name).order()

    def places(self, name: str | None = None) -> dict[str, tuple[float, float]]:
        """The 5th and the 95th percentile of each model's place over half-samples, from 1; empty if none."""
        found = self._half_places(name)
        if found is None:
            return {}
        return {
            model: (float(np.nanquantile(row, 0.05)), float(np.nanquantile(row, 0.95)))
            for model, row in zip(self.names, found.T, strict=True)
            if np.isfinite(row).any()
        }

    def firsts(self, name: str | None = None) -> dict[str, float]:
        """The share of half-samples in which each model is first; empty where there are none."""
        found = self._half_places(name)
        if found is None:
            return {}
        top = found == np.nanmin(np.where(np.isfinite(found), found, np.inf), axis=1, keepdims=True)
        shares = (top / top.sum(1, keepdims=True)).mean(0)
        return {model: float(share) for model, share in zip(self.names, shares, strict=True)}

    def tau(self, name: str | None = None) -> float | None:
        """The weighted Kendall tau of a column with the truth; None where there is none or it is constant."""
        return weighted_tau(self.column(name).values, self.truth)

    def tau_halves(self, name: str | None = None, models: Collection[str] | None = None) -> list[float]:
        """The same over half-samples, of all models or of some."""
        halves = self.column(name).halves
        truth = {n: value for n, value in self.truth.items() if models is None or n in models}
        rows = [] if halves is None or not truth else [self._values(row) for row in halves]
        return [tau for row in rows if (tau := weighted_tau(row, truth)) is not None]

    def agreement(self) -> list[list[float | None]]:
        """The weighted Kendall tau of every column with every other, in their order."""
        return [[weighted_tau(a.values, b.values) for b in self.columns] for a in self.columns]

    def sentence(self) -> str:
        """Which model, how sure, and whether a plain baseline would have said the same."""
        from equipoise.transferability.rankingtext import sentence

        return sentence(self)

    def __str__(self) -> str:
        from equipoise.transferability.rankingtext import text

        return text(self)

    def to_json(self) -> str:
        """Everything as JSON; what is not defined is null."""
        from equipoise.transferability.rankingtext import as_json

        return as_json(self)

    def page(self) -> str:
        """The ranking as one page of HTML that loads nothing from any host."""
        from equipoise.transferability.rankingpage import page

        return page(self)

    def picture(self) -> str:
        """The order, its sureness and the plain baseline's order as an SVG."""
        from equipoise.transferability.rankingpicture import picture

        return picture(self)

    def write(self, path: str | Path) -> None:
        """Write the page as .html, the picture as .svg or all numbers as .json, atomically.

        Raises ValueError for another ending.
        """
        forms = {".html": self.page, ".svg": self.picture, ".json": lambda: self.to_json() + "\n"}
        write_as(path, "a ranking", forms)

    def _values(self, row: Array) -> dict[str, float]:
        return {name: float(v) for name, v in zip(self.names, row, strict=True) if np.isfinite(v)}

    def _half_places(self, name: str | None) -> Array | None:  # -> (B, m), from 1, ties share a place
        halves = self.column(name).halves
        if halves is None or not np.isfinite(halves).any(1).any():
            return None
        found = np.full_like(halves, np.nan)
        for row, places in zip(halves, found, strict=True):
            places[np.isfinite(row)] = _places(row[np.isfinite(row)])
        return found[np.isfinite(halves).any(1)]


def _places(values: Array) -> Array:  # (m,) -> (m,) from 1, ties share the mean of theirs
    return rankdata(-levels(values))
