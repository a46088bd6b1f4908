"""The pages that are made from what the code states: rules, papers, reference, evidence."""

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from equipoise.core.card import GUARANTEES, ROOMS, RULE_ROOMS, Card, cards

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
RESULTS = ROOT / "evidence" / "results"
VERDICTS = ("fails", "inconclusive", "holds")


@cache
def public() -> dict[str, dict[str, str]]:
    """Package -> public name -> where it is defined, from the packages' stubs."""
    found = {}
    for stub in sorted(SOURCE.rglob("__init__.pyi")):
        package = ".".join(stub.parent.relative_to(SOURCE).parts)
        found[package] = {
            alias.asname or alias.name: f"{package}.{node.module}.{alias.name}"
            for node in ast.parse(stub.read_text(encoding="utf-8")).body
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
            for alias in node.names
        }
    return {package: names for package, names in found.items() if names}


def reference(package: str, elsewhere: Mapping[str, str]) -> str:
    """One page for a package: each public name of it, those with a page of their own as links."""
    names = public()[package]
    parts = [f"# {package}\n"]
    linked = [f"[{name}](../{elsewhere[where]})" for name, where in names.items() if where in elsewhere]
    parts += [f"{', '.join(linked)}\n"] if linked else []
    parts += [f"::: {where}\n" for where in names.values() if where not in elsewhere]
    return "\n".join(parts)


def reference_address(package: str) -> str:
    """The page of a package, below docs/."""
    return f"reference/{package}.md"


def rules() -> str:
    """Every rule, problem and federation with what it promises."""
    lines = [
        "# Rules and problems\n",
        "`equipoise show NAME` prints one of them in full; `equipoise list --guarantee NAME` those that"
        " promise something. *Main* rules were checked against the paper's or a peer's values,"
        " *experimental* ones are our reading.\n",
    ]
    for room in RULE_ROOMS:
        lines += [
            f"## {room}\n",
            "| rule or system | shape | what it does | guarantees | status |",
            "| --- | --- | --- | --- | --- |",
        ]
        for card in cards(room).values():
            promises = " ".join(f"`{g}`" for g in card.guarantees)
            facts = (_linked(room, card), card.shape, plain_text(card.summary), promises, card.status)
            lines.append(f"| {' | '.join(facts)} |")
        lines.append("")
    kinds = {
        "pareto": "solver",
        "merging": "method",
        "transferability": "score",
        "federated": "system",
        "scaling": "law or schedule",
    }
    for room, kind in kinds.items():
        lines += [f"## {room}\n", f"| {kind} | what it does | for | status |", "| --- | --- | --- | --- |"]
        for card in cards(room).values():
            facts = (_linked(room, card), plain_text(card.summary), plain_text(card.use), card.status)
            lines.append(f"| {' | '.join(facts)} |")
        lines.append("")
    lines += ["## problems\n", "| problem | what it is | for |", "| --- | --- | --- |"]
    lines += _catalogue("problem")
    lines += ["\n## federations\n", "| federation | what it is | for |", "| --- | --- | --- |"]
    lines += _catalogue("federation")
    lines += ["\n## Guarantees\n", "| guarantee | meaning |", "| --- | --- |"]
    lines += [f"| `{name}` | {plain_text(words)} |" for name, words in GUARANTEES.items()]
    return "\n".join(lines) + "\n"


def _catalogue(shape: str) -> list[str]:
    found = [card for card in cards("problems").values() if card.shape == shape]
    facts = [(_linked("problems", card), plain_text(card.summary), plain_text(card.use)) for card in found]
    return [f"| {' | '.join(one)} |" for one in facts]


def papers() -> str:
    """Each source once, newest first, with what is built on it."""
    sources: dict[tuple[int, str], list[tuple[str, Card]]] = {}
    for room in ROOMS:
        for card in cards(room).values():
            if card.title:
                sources.setdefault((-card.year, card.title), []).append((room, card))
    lines = [
        "# Papers\n",
        f"The {len(sources)} papers and data sets that methods and problems are taken from, newest first,"
        " with what is built on each. *Experimental* is our reading; what is not marked was checked against"
        " the paper's or a peer's values. What came of a paper's claims is on its method's page and under"
        " [evidence](evidence.md).\n",
    ]
    for _, found in sorted(sources.items()):
        names = ", ".join(
            _linked(room, card) + (" (experimental)" if experimental(card) else "") for room, card in found
        )
        lines.append(f"- {names}: {citation(found[0][1])}")
    return "\n".join(lines) + "\n"


def experimental(card: Card) -> bool:
    """Whether a method is our reading of its paper alone; problems and federations are no readings."""
    return card.status == "experimental" and card.shape not in ("problem", "federation")


def evidence() -> str:
    """The verdicts of all experiments that were run in full, failures first."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    claims = sorted(_claims(results), key=lambda row: VERDICTS.index(row[1]["verdict"]))
    lines = [
        "# Evidence\n",
        "Each experiment is the smallest that would show a claim false. `make evidence` runs them all and"
        " writes this page, failures first; a script exits non-zero when a run departs from the recorded"
        " verdict.\n",
    ]
    if claims:
        lines += ["| verdict | experiment | claim | seen |", "| --- | --- | --- | --- |"]
        for name, claim in claims:
            said = f"{plain_text(claim['claim'])} | {plain_text(claim['seen'])}"
            lines.append(f"| **{claim['verdict']}** | `evidence/{name}.py` | {said} |")
        lines.append("")
    else:
        lines.append("No experiment has been run in full yet.\n")
    for result in results:
        about = f"{result['wall_seconds']:.0f} s; {_versions(result['versions'])}."
        lines += [f"## {result['name']}\n", f"{about}\n"]
        for found in result.get("tables", ()):
            lines += [table(found), ""]
    return "\n".join(lines)


def table(found: Mapping[str, Any]) -> str:
    """A table of a result as Markdown, with its title and note."""
    rows = [[_cell(value) for value in row] for row in (found["columns"], *found["rows"])]
    body = ["| " + " | ".join(row) + " |" for row in rows]
    body.insert(1, "|" + " --- |" * len(rows[0]))
    note = [f"\n{plain_text(found['note'])}"] if found.get("note") else []
    return "\n".join([f"**{plain_text(found['title'])}**\n", *body, *note])


class Link(str):
    """A cell of a table that is Markdown already: a name that leads to a page."""

    def __new__(cls, name: str, where: str) -> "Link":
        return super().__new__(cls, f"[{plain_text(name)}]({where})")


def _cell(value: str | int | float) -> str:
    if isinstance(value, Link):
        return value
    return f"{value:.4g}" if isinstance(value, float) else plain_text(str(value))


def _claims(results: list[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for result in results:
        for claim in result["claims"]:
            yield result["name"], claim


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def method_address(room: str, card: Card) -> str:
    """The page of a method, below docs/."""
    return f"methods/{room}/{card.name.lower()}.md"


def _linked(room: str, card: Card) -> str:
    return Link(card.name, method_address(room, card))


def citation(card: Card) -> str:
    """Where a method is from, with a link to the paper."""
    text = plain_text(card.citation())
    if card.arxiv:
        return text.replace(
            f"arXiv:{card.arxiv}", f"[arXiv:{card.arxiv}](https://arxiv.org/abs/{card.arxiv})"
        )
    if card.doi:
        return text.replace(f"doi:{plain_text(card.doi)}", f"[doi:{card.doi}](https://doi.org/{card.doi})")
    return text


def plain_text(text: str) -> str:
    """Plain text as Markdown that shows it as it is, in a table too; what stands in backticks is code.

    >>> plain_text("a_b is `a_b`")
    'a\\\\_b is `a_b`'
    """
    parts = text.split("`")
    for place in range(0, len(parts), 2):
        for sign in ("\\", "|", "*", "_", "<", "["):
            parts[place] = parts[place].replace(sign, f"\\{sign}" if sign != "<" else "&lt;")
    return " ".join("`".join(parts).split())


if __name__ == "__main__" and sys.argv[1:] == ["evidence"]:
    (ROOT / "docs" / "evidence.md").write_text(evidence(), encoding="utf-8")
