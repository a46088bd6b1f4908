"""The pages that are made from what the code states: rules, papers, reference, evidence."""

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from equipoise.core.card import GUARANTEES, ROOMS, RULE_ROOMS, Card, cards

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
RESULTS = ROOT / "evidence" / "results"
VERDICTS = ("fails", "inconclusive", "holds")


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


def reference(package: str) -> str:
    """One page for a package, with each public name of it."""
    parts = [f"# {package}\n"]
    parts += [f"::: {where}\n" for where in public()[package].values()]
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
            facts = (_linked(room, card), card.shape, _text(card.summary), promises, card.status)
            lines.append(f"| {' | '.join(facts)} |")
        lines.append("")
    kinds = {"pareto": "solver", "merging": "method", "transferability": "score", "federated": "system"}
    for room, kind in kinds.items():
        lines += [f"## {room}\n", f"| {kind} | what it does | for | status |", "| --- | --- | --- | --- |"]
        for card in cards(room).values():
            facts = (_linked(room, card), _text(card.summary), _text(card.use), card.status)
            lines.append(f"| {' | '.join(facts)} |")
        lines.append("")
    lines += ["## problems\n", "| problem | what it is | for |", "| --- | --- | --- |"]
    lines += _catalogue("problem")
    lines += ["\n## federations\n", "| federation | what it is | for |", "| --- | --- | --- |"]
    lines += _catalogue("federation")
    lines += ["\n## Guarantees\n", "| guarantee | meaning |", "| --- | --- |"]
    lines += [f"| `{name}` | {_text(words)} |" for name, words in GUARANTEES.items()]
    return "\n".join(lines) + "\n"


def _catalogue(shape: str) -> list[str]:
    found = [card for card in cards("problems").values() if card.shape == shape]
    return [f"| `{card.name}` | {_text(card.summary)} | {_text(card.use)} |" for card in found]


def papers() -> str:
    """Each source once, newest first, with what is built on it."""
    sources: dict[tuple[int, str], list[Card]] = {}
    for room in ROOMS:
        for card in cards(room).values():
            if card.title:
                sources.setdefault((-card.year, card.title), []).append(card)
    lines = ["# Papers\n", "What the rules and problems are taken from, newest first.\n"]
    for _, found in sorted(sources.items()):
        names = ", ".join(f"**{card.name}**" for card in found)
        lines.append(f"- {names}: {_citation(found[0])}")
    return "\n".join(lines) + "\n"


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
            said = f"{_text(claim['claim'])} | {_text(claim['seen'])}"
            lines.append(f"| **{claim['verdict']}** | `evidence/{name}.py` | {said} |")
        lines.append("")
    else:
        lines.append("No experiment has been run in full yet.\n")
    for result in results:
        about = f"{result['wall_seconds']:.0f} s; {_versions(result['versions'])}."
        lines += [f"## {result['name']}\n", f"{about}\n"]
        for table in result.get("tables", ()):
            lines += [_table(table), ""]
    return "\n".join(lines)


def _table(table: Mapping[str, Any]) -> str:
    rows = [[_cell(value) for value in row] for row in (table["columns"], *table["rows"])]
    body = ["| " + " | ".join(row) + " |" for row in rows]
    body.insert(1, "|" + " --- |" * len(rows[0]))
    note = [f"\n{_text(table['note'])}"] if table.get("note") else []
    return "\n".join([f"**{_text(table['title'])}**\n", *body, *note])


def _cell(value: str | int | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _text(str(value))


def _claims(results: list[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for result in results:
        for claim in result["claims"]:
            yield result["name"], claim


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _linked(room: str, card: Card) -> str:
    where = public().get(f"equipoise.{room}", {}).get(card.name)
    return f"[{card.name}]({reference_address(f'equipoise.{room}')}#{where})" if where else card.name


def _citation(card: Card) -> str:
    text = _text(card.citation())
    if card.arxiv:
        return text.replace(
            f"arXiv:{card.arxiv}", f"[arXiv:{card.arxiv}](https://arxiv.org/abs/{card.arxiv})"
        )
    if card.doi:
        return text.replace(f"doi:{_text(card.doi)}", f"[doi:{card.doi}](https://doi.org/{card.doi})")
    return text


def _text(text: str) -> str:
    """Plain text as Markdown that shows it as it is, in a table too."""
    for sign in ("\\", "|", "*", "_", "<", "["):
        text = text.replace(sign, f"\\{sign}" if sign != "<" else "&lt;")
    return " ".join(text.split())


if __name__ == "__main__" and sys.argv[1:] == ["evidence"]:
    (ROOT / "docs" / "evidence.md").write_text(evidence(), encoding="utf-8")
