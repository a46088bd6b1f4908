"""The generated pages say what the cards and the results say."""

import json
from pathlib import Path

import pytest
from docs import pages
from docs.docstrings import plain

from equipoise.core.card import cards


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    return tmp_path


def write(folder: Path, name: str, *verdicts: str) -> None:
    claims = [{"claim": f"{name} {v}", "seen": "0.1 | 0.2", "verdict": v} for v in verdicts]
    table = {
        "title": "errors",
        "columns": ["method", "error"],
        "rows": [["ours", 0.12345]],
        "note": "5 seeds",
    }
    content = {"name": name, "claims": claims, "versions": {"torch": "2.13.0"}, "wall_seconds": 61.7}
    content["tables"] = [table]
    (folder / f"{name}.json").write_text(json.dumps(content))


def test_evidence_puts_failures_first(results: Path):
    write(results, "first", "holds", "inconclusive")
    write(results, "second", "holds", "fails")
    rows = [
        line.split("|")[1].strip(" *") for line in pages.evidence().splitlines() if line.startswith("| **")
    ]
    assert rows == ["fails", "inconclusive", "holds", "holds"]


def test_evidence_keeps_a_table_whole(results: Path):
    write(results, "bars", "holds")
    assert "0.1 \\| 0.2 |" in pages.evidence()
    assert "62 s; torch 2.13.0." in pages.evidence()


def test_evidence_shows_the_tables_of_a_run(results: Path):
    write(results, "bars", "holds")
    assert "**errors**\n\n| method | error |\n| --- | --- |\n| ours | 0.1235 |\n\n5 seeds" in pages.evidence()


def test_without_results_the_page_says_so(results: Path):
    assert "No experiment has been run in full yet." in pages.evidence()


def test_every_rule_is_in_the_table_and_every_paper_in_the_list():
    table, list_of_papers = pages.rules(), pages.papers()
    for room in pages.RULE_ROOMS:
        for card in cards(room).values():
            assert f"[{card.name}](reference/equipoise.{room}.md#equipoise.{room}." in table
            assert not card.title or f"**{card.name}**" in list_of_papers


def test_reference_names_what_the_stub_exports():
    assert pages.public()["equipoise"]["backward"] == "equipoise.core.backward.backward"
    assert "::: equipoise.aggregation.mean.Mean\n" in pages.reference("equipoise.aggregation")


def test_docstrings_keep_their_formulas_and_fence_their_examples():
    docstring = (
        "Takes <d, g_i> = w*G `a_b`.\n\n    >>> kept\n\n>>> 1 < 2\nTrue\n\nAn\nend: losses\nlosses: (m,)"
    )
    shown = plain(docstring, {"losses", "gramian"})
    assert "&lt;d, g\\_i> = w\\*G `a_b`." in shown
    assert "```pycon\n>>> 1 < 2\nTrue\n```" in shown
    assert "An\nend: losses\n\n`losses`: (m,)" in shown
