"""`equipoise show`: one card in words."""

import json
import textwrap
from dataclasses import asdict
from typing import Annotated

import typer

from equipoise.cli import complete
from equipoise.core.card import GUARANTEES, ROOMS, Card, cards, parse_guarantee
from equipoise.core.errors import unknown

STATUS = {
    "main": "main: its values were checked against the paper's or a peer's",
    "experimental": "experimental: our reading of the paper, not checked against its values",
}


def show(
    rule: Annotated[
        str, typer.Argument(help="A name as `list` prints it.", autocompletion=complete.anything)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Show a card: formula, guarantees, cost, when to use it and when not, citation."""
    known = {name: (room, card) for room in ROOMS for name, card in cards(room).items()}
    name = rule if rule in known else next((k for k in known if k.lower() == rule.lower()), None)
    if name is None:
        raise typer.BadParameter(unknown("rule", rule, known))
    room, card = known[name]
    typer.echo(json.dumps({"room": room, **asdict(card)}, indent=2) if as_json else page(room, card))


def page(room: str, card: Card) -> str:
    """The card as a page of text; what it does not state is left out."""
    status = STATUS[card.status] if card.shape not in ("problem", "federation") else ""
    facts = (
        ("Formula", card.formula),
        ("Use it", card.use),
        ("Avoid it", card.avoid),
        ("Guarantees", "\n".join(f"{g}: {meaning(g)}" for g in card.guarantees)),
        ("One objective", card.single),
        ("Cost", card.cost),
        ("Status", status),
        ("Evidence", f"evidence/{card.evidence.removesuffix('.py')}.py" if card.evidence else ""),
        ("Source", card.citation() if card.title else ""),
    )
    lines = [f"{card.name} ({room}, {card.shape})", _wrapped("", card.summary)]
    return "\n".join([*lines, *(_wrapped(label, text) for label, text in facts if text)])


def meaning(guarantee: str) -> str:
    """A guarantee in words, its degree included."""
    name, degree = parse_guarantee(guarantee)
    words = GUARANTEES[name]
    return words if degree is None else words.replace("the stated degree", f"degree {degree:g}")


def _wrapped(label: str, text: str) -> str:
    indent = " " * 15
    return "\n".join(
        textwrap.fill(
            line,
            width=100,
            initial_indent=f"{label:<15}" if label and i == 0 else (indent if label else ""),
            subsequent_indent=indent if label else "",
            break_on_hyphens=False,
        )
        for i, line in enumerate(text.splitlines())
    )
