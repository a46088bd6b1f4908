"""Tables of trained runs, kept in evidence/tables, so that laws are fitted again without training.

A run is named by its setting, a flat mapping of words and numbers; it gives rows, one for each checkpoint.
What is not in the table is trained and written at once, so that a stopped experiment goes on where it was;
who removes the file trains all anew.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from equipoise.core.atomic import write

FOLDER = Path(__file__).parent / "tables"
Value = str | int | float
Row = dict[str, Value]
Setting = Mapping[str, Value]
Train = Callable[[Setting], Sequence[Mapping[str, Value]]]


def trained(name: str, settings: Sequence[Setting], train: Train, *, fast: bool = False) -> list[Row]:
    """The rows of all settings, in their order; `train` gives those of a setting that the table lacks.

    Every row has the setting's columns and those that `train` gives. Under `fast` nothing is trained, and the
    settings that the table has are the answer; it must have one.

    Raises ValueError where rows have unlike columns, and FileNotFoundError under `fast` without a table.
    """
    path = FOLDER / f"{name}.csv"
    if fast and not path.is_file():
        raise FileNotFoundError(f"there is no table {path}; run the experiment without --fast first")
    keys = list(settings[0])
    held = _read(path)
    known = {_key(row, keys) for row in held}
    missing = [] if fast else [one for one in settings if _key(one, keys) not in known]
    console = Console(stderr=True)
    quiet = not (missing and console.is_terminal)
    for one in track(missing, f"training {name}", console=console, disable=quiet):
        held += [{**one, **row} for row in train(one)]
        _write(path, held)
    places = {_key(one, keys): number for number, one in enumerate(settings)}
    chosen = [row for row in _read(path) if _key(row, keys) in places]
    return sorted(chosen, key=lambda row: places[_key(row, keys)])


def columns(rows: Sequence[Row]) -> dict[str, list[Value]]:
    """Rows as the mapping of columns that `Runs` takes."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def _key(row: Mapping[str, Value], keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(_text(row[key]) for key in keys)


def _text(value: Value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _value(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: _value(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def _write(path: Path, rows: Sequence[Row]) -> None:
    unlike = [row for row in rows if set(row) != set(rows[0])]
    if unlike:
        odd = sorted(set(unlike[0]) ^ set(rows[0]))
        raise ValueError(f"columns {odd} are in some rows of {path.name} only")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: _text(value) for name, value in row.items()} for row in rows])
    path.parent.mkdir(exist_ok=True)
    write(path, text.getvalue())
