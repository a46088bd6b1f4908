"""Runs: what was trained on how much of what, and the losses it came to."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.core.errors import unknown

Array = np.ndarray
LOSS = "loss"


@dataclass(frozen=True, eq=False)
class Features:
    """What a law looks at, n rows: N parameters, D tokens, the mixture p (n, k) over `sources`, U unique
    tokens
    of each source, and further columns. What a table lacks is None."""

    count: int
    N: Array | None = None
    D: Array | None = None
    p: Array | None = None
    U: Array | None = None
    sources: tuple[str, ...] = ()
    other: Mapping[str, Array] = field(default_factory=dict)

    def need(self, name: str, law: str) -> Array:
        """A column that a law cannot do without; raises ValueError naming it where it is missing."""
        found = getattr(self, name) if name in ("N", "D", "p", "U") else self.other.get(name)
        if found is None:
            raise ValueError(f"{law} needs the column {'p.<source>' if name == 'p' else name!r}")
        return found

    def unique(self, law: str) -> Array:  # -> (n,)
        """Unique tokens of each row: the column "U", or those of all sources; ValueError without either."""
        if "U" in self.other:
            return self.other["U"]
        return self.need("U", law).sum(1)

    def spread(self, count: int) -> "Features":
        """A single row, `count` times."""
        return self.take(np.zeros(count, dtype=int))

    def take(self, rows: Array) -> "Features":
        """Some of the rows."""
        parts = {name: _rows(getattr(self, name), rows) for name in ("N", "D", "p", "U")}
        other = {name: column[rows] for name, column in self.other.items()}
        return Features(len(np.arange(self.count)[rows]), sources=self.sources, other=other, **parts)


def _rows(part: Array | None, rows: Array) -> Array | None:
    return None if part is None else part[rows]


class Runs:
    """A table of runs, a row for each run or checkpoint of one.

    columns: by name, all of one length: "N" parameters, "D" tokens, "p.<source>" the mixture, "U.<source>"
    unique tokens, "loss" or "loss.<objective>" (a missing one is NaN or empty), "run" and "seed" to tell rows
    of one run and repeats apart; other numbers are kept for laws that ask for them. A DataFrame is such a
    mapping. Ratios are divided by their sum where that is within 2% of 1.

    Raises ValueError, naming column and row, for lengths that differ, what is not a number, N, D or a loss
    that is not above 0, ratios below 0 or of another sum, and a table without losses.

    >>> runs = Runs({"N": [1e6, 1e7], "D": [1e8, 1e8], "loss": [3.1, 2.7]})
    >>> runs.objectives, runs.losses.shape
    (('loss',), (2, 1))
    """

    def __init__(self, columns: Mapping[str, Iterable[Any]]) -> None:
        table = {str(name): list(columns[name]) for name in columns}
        lengths = {name: len(column) for name, column in table.items()}
        if not lengths or not min(lengths.values()):
            raise ValueError("the table has no rows")
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns have unlike lengths: {lengths}")
        self.count = next(iter(lengths.values()))
        words = {name: table.pop(name) for name in ("run", "seed") if name in table}
        numbers = {name: _numbers(name, column) for name, column in table.items()}
        losses = {name: numbers.pop(name) for name in list(numbers) if _part(name) == LOSS}
        if not losses:
            raise ValueError(f"no column 'loss' or 'loss.<objective>' among {', '.join(table)}")
        self.objectives = tuple(name.partition(".")[2] or LOSS for name in losses)
        self.losses = np.stack(list(losses.values()), 1)
        _check_above("loss", self.losses)
        mixture = {name[2:]: numbers.pop(name) for name in list(numbers) if _part(name) == "p"}
        unique = {name[2:]: numbers.pop(name) for name in list(numbers) if _part(name) == "U"}
        known = {name: numbers.pop(name) for name in ("N", "D") if name in numbers}
        for name, column in known.items():
            _check_above(name, column, missing=False)
        self.features = Features(
            self.count,
            N=known.get("N"),
            D=known.get("D"),
            p=_mixture(mixture) if mixture else None,
            U=_unique(unique, tuple(mixture)),
            sources=tuple(mixture),
            other=numbers,
        )
        self.run = tuple(map(str, words.get("run", range(self.count))))
        self.seed = tuple(map(str, words["seed"])) if "seed" in words else None

    @classmethod
    def from_csv(cls, path: str | Path) -> "Runs":
        """A CSV file with a header; raises ValueError as the class does, naming the file."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        short = [number for number, row in enumerate(rows, 2) if len(row) != len(header)]
        if short:
            raise ValueError(f"{path}, line {short[0]}: not {len(header)} cells, as the header has")
        try:
            return cls(dict(zip(header, zip(*rows, strict=True), strict=True)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def columns(self) -> dict[str, list[Any]]:
        """The table as a mapping again, missing losses empty."""
        x = self.features
        found: dict[str, list[Any]] = {"run": list(self.run)}
        if self.seed is not None:
            found["seed"] = list(self.seed)
        found |= {name: part.tolist() for name, part in (("N", x.N), ("D", x.D)) if part is not None}
        for name, part in (("p", x.p), ("U", x.U)):
            if part is not None:
                found |= {f"{name}.{s}": part[:, i].tolist() for i, s in enumerate(self.sources)}
        found |= {name: column.tolist() for name, column in x.other.items()}
        for objective in self.objectives:
            values = [v if np.isfinite(v) else "" for v in self.loss(objective).tolist()]
            found[LOSS if self.objectives == (LOSS,) else f"{LOSS}.{objective}"] = values
        return found

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"Runs({self.count} rows, {len(self.objectives)} losses, {len(self.sources)} sources)"

    @property
    def sources(self) -> tuple[str, ...]:
        """What the mixture is of."""
        return self.features.sources

    def loss(self, objective: str) -> Array:  # -> (n,)
        """One column of losses; raises ValueError for a name that there is not."""
        if objective not in self.objectives:
            raise ValueError(unknown("objective", objective, self.objectives))
        return self.losses[:, self.objectives.index(objective)]

    def take(self, rows: Sequence[int] | Array) -> "Runs":
        """Some of the rows, as a table of its own."""
        index = np.arange(self.count)[np.asarray(rows)]
        found = object.__new__(Runs)
        found.count, found.objectives = len(index), self.objectives
        found.losses, found.features = self.losses[index], self.features.take(index)
        found.run = tuple(self.run[i] for i in index)
        found.seed = None if self.seed is None else tuple(self.seed[i] for i in index)
        return found

    @property
    def mixtures(self) -> Array:  # -> (n,)
        """A number for each row, equal where the mixture is; all 0 without one."""
        p = self.features.p
        if p is None:
            return np.zeros(self.count, dtype=int)
        return np.unique(p.round(9), axis=0, return_inverse=True)[1].reshape(-1)

    def repeats(self) -> list[Array]:
        """The rows of each setting (N, D and mixture) that was run more than once."""
        parts = [part for part in (self.features.N, self.features.D) if part is not None]
        key = np.stack([self.mixtures, *parts], 1)
        group = np.unique(key, axis=0, return_inverse=True)[1].reshape(-1)
        return [rows for value in range(group.max() + 1) if len(rows := np.flatnonzero(group == value)) > 1]

    def seed_sd(self) -> dict[str, float]:
        """The standard deviation of each loss, relative, between repeats of one setting, pooled; none
        without.

        >>> runs = Runs({"D": [1.0, 1.0, 2.0], "loss": [2.0, 2.02, 1.5]})
        >>> round(runs.seed_sd()["loss"], 4)
        0.007
        """
        found = {}
        for objective in self.objectives:
            logs = np.log(self.loss(objective))
            parts = [logs[rows][np.isfinite(logs[rows])] for rows in self.repeats()]
            parts = [part for part in parts if len(part) > 1]
            if parts:
                squares = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
                found[objective] = (squares / sum(len(part) - 1 for part in parts)) ** 0.5
        return found


def as_runs(given: "Runs | Mapping[str, Iterable[Any]] | str | Path") -> Runs:
    """A table as it is, a mapping of columns, or the path of a CSV file."""
    if isinstance(given, Runs):
        return given
    return Runs.from_csv(given) if isinstance(given, str | Path) else Runs(given)


def _part(name: str) -> str:
    """ "p" of "p.en", "loss" of "loss"."""
    head = name.partition(".")[0]
    return "" if head in ("p", "U") and "." not in name else head


def _numbers(name: str, column: Sequence[Any]) -> Array:
    found = np.empty(len(column))
    for row, value in enumerate(column):
        try:
            found[row] = np.nan if isinstance(value, str) and not value.strip() else float(value)
        except (TypeError, ValueError):
            raise ValueError(f"column {name!r}, row {row + 1}: {value!r} is not a number") from None
    return found


def _check_above(name: str, values: Array, *, missing: bool = True) -> None:
    bad = ~(values > 0) | np.isinf(values)
    if missing:
        bad &= ~np.isnan(values)
    if bad.any():
        row = int(np.argwhere(bad)[0][0])
        raise ValueError(f"column {name!r}, row {row + 1}: {values[row]}; it is a finite number above 0")


def _mixture(columns: Mapping[str, Array]) -> Array:
    p = np.stack(list(columns.values()), 1)
    if not (np.isfinite(p).all() and (p >= 0).all()):
        row, column = np.argwhere(~(np.isfinite(p) & (p >= 0)))[0]
        raise ValueError(
            f"column 'p.{list(columns)[column]}', row {row + 1}: {p[row, column]}; it is 0 or more"
        )
    total = p.sum(1, keepdims=True)
    if (np.abs(total - 1) > 0.02).any():
        row = int(np.argmax(np.abs(total - 1)))
        raise ValueError(f"row {row + 1}: the ratios sum to {float(total[row, 0]):.4g}, not to 1")
    return p / total


def _unique(columns: Mapping[str, Array], sources: tuple[str, ...]) -> Array | None:
    if not columns:
        return None
    missing = [name for name in sources if name not in columns]
    if missing or (sources and len(columns) != len(sources)):
        raise ValueError(
            f"columns U.<source> are given for {', '.join(columns)}; the mixture is of {sources}"
        )
    return np.stack([columns[name] for name in (sources or columns)], 1)
