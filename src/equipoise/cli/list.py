"""`equipoise list`: what there is, read from the cards."""

import json
import shutil
import sys
import textwrap
from dataclasses import asdict
from typing import Annotated

import typer

from equipoise.cli import complete
from equipoise.core.card import GUARANTEES, ROOMS, Card, cards
from equipoise.core.errors import unknown

NARROW = 100
"""Columns below which a table does not fit."""


def list_(
    room: Annotated[
        str | None,
        typer.Argument(help=f"{', '.join(ROOMS)}; all where none is named.", autocompletion=complete.rooms),
    ] = None,
    guarantee: Annotated[
        str | None, typer.Option(help="Only what promises this, such as NON_CONFLICTING or SIMPLEX.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print whole cards as JSON.")] = False,
) -> None:
    """List rules, systems, front solvers, problems and federations, and what each rule guarantees."""
    if room is not None and room not in ROOMS:
        raise typer.BadParameter(unknown("room", room, ROOMS))
    found = [(name, card) for name in ([room] if room else ROOMS) for card in cards(name).values()]
    if guarantee is not None:
        wanted = guarantee.upper().replace("-", "_")
        if wanted not in GUARANTEES:
            raise typer.BadParameter(unknown("guarantee", wanted, GUARANTEES))
        found = [(name, card) for name, card in found if card.promises(wanted)]
    if as_json:
        typer.echo(json.dumps([{"room": name, **asdict(card)} for name, card in found], indent=2))
    else:
        narrow = sys.stdout.isatty() and shutil.get_terminal_size().columns < NARROW
        typer.echo(entries(found, shutil.get_terminal_size().columns) if narrow else table(found))


def entries(found: list[tuple[str, Card]], width: int) -> str:
    """A few lines a card, for a terminal of so many columns that a table would not fit."""
    lines = []
    for room, card in found:
        lines += textwrap.wrap(f"{card.name} ({room}, {card.shape})", width)
        lines += textwrap.wrap(card.summary, width, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


def table(found: list[tuple[str, Card]]) -> str:
    """One line a card, in columns."""
    rows = [("NAME", "ROOM", "SHAPE", "STATUS", "YEAR", "SUMMARY")]
    for room, card in found:
        status = "" if card.shape in ("problem", "federation") else card.status
        rows.append((card.name, room, card.shape, status, str(card.year or ""), card.summary))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    )
