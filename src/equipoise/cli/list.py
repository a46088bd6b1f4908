"""`equipoise list`: what there is, read from the cards."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from equipoise.core.card import GUARANTEES, ROOMS, Card, cards
from equipoise.core.errors import unknown


def list_(
    room: Annotated[str | None, typer.Argument(help=f"{', '.join(ROOMS)}; all where none is named.")] = None,
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
        typer.echo(table(found))


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
