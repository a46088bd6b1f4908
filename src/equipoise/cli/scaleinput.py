"""What `equipoise scale` is given: a table, a study or a saved law, names, and amounts by name."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from equipoise.scaling import FittedLaw, Runs


def table_of(path: Path) -> "Runs":
    """The runs of a CSV file, or of the folder of a study; raises ValueError, FileNotFoundError."""
    if path.is_dir():
        from equipoise.study.mixtures import mixtures

        return mixtures(path)
    from equipoise.scaling import Runs

    return Runs.from_csv(path)


def saved_law(path: Path) -> "FittedLaw | None":
    """The law of a file that `scale fit --out` wrote; None for what is none by its name."""
    if path.suffix.lower() != ".json":
        return None
    from equipoise.scaling import load_law

    return load_law(path)


def known(kind: str, name: str, room: str, shape: str) -> str:
    """The name of a card of a room as it is written, whatever the case. Raises BadParameter."""
    from equipoise.core.card import cards
    from equipoise.core.errors import unknown

    names = {card.name.lower(): card.name for card in cards(room).values() if card.shape == shape}
    if name.lower() not in names:
        raise typer.BadParameter(unknown(kind, name, names.values()))
    return names[name.lower()]


def amounts(option: str, text: str | None) -> dict[str, float] | None:
    """{"en": 0.7} of "en=0.7". Raises BadParameter."""
    if text is None:
        return None
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise typer.BadParameter(f"--{option}: {part!r} is not NAME=NUMBER") from None
    return found


def largest(table: "Runs", name: str) -> float | None:
    """The largest N or D of the runs; None where they have none."""
    column = getattr(table.features, name)
    return None if column is None else float(column.max())
