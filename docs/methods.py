"""One page for each method: what its card says, what was seen of it, and its reference."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from docs import pages
from docs.pages import RESULTS, citation, method_address, plain_text, public

from equipoise.core.card import GUARANTEES, ROOMS, RULE_SHAPES, Card, cards, parse_guarantee

USE = {
    "gramian": "step = equipoise.backward(losses, {name}())\noptimizer.step()",
    "row": "step = equipoise.backward(losses, {name}())\noptimizer.step()",
    "scalarizer": "step = equipoise.backward(losses, {name}())\noptimizer.step()",
    "transform": "equipoise.backward(losses, UPGrad(), transforms=[{name}()], parameters=model)",
}
UPDATE = "rule.update(step, losses=lambda: compute(model, batch), epoch_ended=last_batch)"
"""What a rule that remembers is told after a step, whichever of it the rule needs."""

COMMANDS = {
    "front": "equipoise run digits-pairs --front {name}",
    "merge": "equipoise merge --method {lower} --base base fr=tuned-fr de=tuned-de --out merged",
    "score": "equipoise select models --features features",
    "federated": "equipoise federate digits-clients --algorithm {name}",
    "law": "equipoise scale fit runs.csv --law {name}",
    "problem": "equipoise run {name}",
    "federation": "equipoise federate {name}",
}
FRONT = "---\nsearch:\n  boost: 5\n---\n"
"""Before a page: its place among what a search finds."""

TRIED = {"gramian", "row", "scalarizer", "wrapper"}
"""Shapes that `equipoise advise` tries on a problem."""


def every() -> Iterator[tuple[str, Card]]:
    """All cards with their room."""
    for room in ROOMS:
        for card in cards(room).values():
            yield room, card


def exported(room: str, card: Card) -> tuple[str, str] | None:
    """The public name of a card's method, in whatever case, and where it is defined."""
    names = public().get(f"equipoise.{room}", {})
    return next(((name, where) for name, where in names.items() if name.lower() == card.name.lower()), None)


@cache
def held() -> dict[str, str]:
    """Where a public name is defined -> the page that shows it, for names with a page of their own."""
    return {found[1]: method_address(room, card) for room, card in every() if (found := exported(room, card))}


def page(room: str, card: Card) -> str:
    """The page of one method."""
    found = exported(room, card)
    kind = f"`{room}`, {card.shape}" + (
        f", {card.status}" if card.shape not in ("problem", "federation") else ""
    )
    lines = [FRONT, f"# {card.name}\n", f"{kind}\n", f"{plain_text(card.summary)}\n"]
    if card.formula:
        lines.append(f"```text\n{card.formula}\n```\n")
    facts = {
        "Use it where": card.use,
        "Avoid it where": card.avoid,
        "Cost": card.cost,
        "One objective gets": card.single,
    }
    lines += [f"**{label}** {plain_text(text)}\n" for label, text in facts.items() if text]
    lines += [*_use(room, card, found), *_guarantees(card), *_evidence(card)]
    if card.title:
        lines += ["## Source\n", f"{citation(card)}\n"]
    if found:
        lines += ["## Reference\n", f"::: {found[1]}\n    options:\n      heading_level: 3\n"]
    return "\n".join(lines)


def _use(room: str, card: Card, found: tuple[str, str] | None) -> list[str]:
    code, command = USE.get(card.shape), COMMANDS.get(card.shape)
    lines = ["## Use it\n"] if code or command or card.shape in TRIED else []
    if code and found:
        made = code.format(name=found[0])
        if "STATEFUL" in card.guarantees and card.shape in RULE_SHAPES:
            made = f"rule = {found[0]}()\n{made.replace(f'{found[0]}()', 'rule', 1)}\n{UPDATE}"
        lines.append(f"```python\nfrom equipoise.{room} import {found[0]}\n{made.rstrip()}\n```\n")
    if command:
        lines.append(f"```console\n$ {command.format(name=card.name, lower=card.name.lower())}\n```\n")
    if card.shape in TRIED:
        lines.append(
            f"On your own problem: `equipoise advise problem.py --rules {card.name}`. In a trainer:"
            " [Lightning, Hugging Face](../../training.md).\n"
        )
    return lines


def _guarantees(card: Card) -> list[str]:
    if not card.guarantees:
        return []
    lines = ["## Guarantees\n", "Each is tested, on the card's word, by `equipoise.testing`.\n"]
    for text in card.guarantees:
        name, degree = parse_guarantee(text)
        more = "" if degree is None else f" (degree {degree:g})"
        lines.append(f"- `{name}`{more}: {plain_text(GUARANTEES[name])}")
    return [*lines, ""]


def _evidence(card: Card) -> list[str]:
    """Claims of the card's own experiment, and rows of any table that name the method."""
    lines: list[str] = []
    for result in results():
        if result["name"] == card.evidence.removesuffix(".py"):
            lines += [
                f"- **{c['verdict']}**: {plain_text(c['claim'])} ({plain_text(c['seen'])})"
                for c in result["claims"]
            ]
    tables = [_rows(table, card.name) for result in results() for table in result.get("tables", ())]
    shown = [text for text in tables if text]
    if not lines and not shown:
        return []
    head = [
        "## Evidence\n",
        "What was seen here, on real data; all experiments: [evidence](../../evidence.md).\n",
    ]
    return [*head, *lines, "", *shown]


def _rows(table: Mapping[str, Any], name: str) -> str:
    """A table's rows of this method, with those of the mean beside; "" where it names it nowhere."""

    def called(row: list[Any]) -> str:
        return str(row[0]).partition(",")[0].partition("(")[0].strip()

    mine = [row for row in table["rows"] if called(row).lower() == name.lower()]
    if not mine or len(table["columns"]) > 8:
        return ""
    beside = [
        row for row in table["rows"] if called(row) in ("Mean", "FedAvg", "average") and row not in mine
    ]
    return pages.table({**table, "rows": [*mine, *beside[:1]], "note": ""}) + "\n"


@cache
def results() -> list[Mapping[str, Any]]:
    """What all experiments that were run in full gave."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
