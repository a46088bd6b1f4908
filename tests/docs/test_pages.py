"""The generated pages say what the cards and the results say."""

import json
from pathlib import Path

import pytest
from docs import deciding, gallery, methods, pages
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
            link = f"[{card.name}]({pages.method_address(room, card)})"
            assert link in table
            assert not card.title or link in list_of_papers


def test_reference_names_what_the_stub_exports():
    assert pages.public()["equipoise"]["backward"] == "equipoise.core.backward.backward"
    held = methods.held()
    page = pages.reference("equipoise.aggregation", held)
    assert "[Mean](../methods/aggregation/mean.md)" in page
    assert "::: equipoise.core.backward.backward\n" in pages.reference("equipoise", held)
    assert held["equipoise.aggregation.mean.Mean"] == "methods/aggregation/mean.md"


def test_every_card_has_a_page_with_what_it_says():
    for room, card in methods.every():
        page = methods.page(room, card)
        assert page.splitlines()[5] == f"# {card.name}"
        assert all(f"`{text.partition('(')[0]}`" in page for text in card.guarantees)
        assert not card.formula or card.formula in page
        assert ("## Reference" in page) == (methods.exported(room, card) is not None)


def test_a_method_shows_its_own_evidence_beside_the_mean():
    page = methods.page("aggregation", cards("aggregation")["UPGrad"])
    assert "| UPGrad |" in page
    assert "| Mean |" in page


def test_the_decision_page_takes_its_numbers_from_the_results():
    page = deciding.page()
    result = json.loads((pages.RESULTS / "conflict_methods.json").read_text())
    first = result["tables"][0]["rows"][0]
    assert (
        f"]({pages.method_address('scalarization', cards('scalarization')[first[0]])}) | {first[1]} |" in page
    )
    known = {card.name for _, card in methods.every()}
    assert {name for _, names, _ in deciding.CASES for name in names} <= known


def test_the_gallery_has_every_example():
    page = gallery.page()
    assert len(gallery.examples()) > 2
    assert all(f"$ python examples/{path.name}" in page for path in gallery.examples())


def test_docstrings_keep_their_formulas_and_fence_their_examples():
    docstring = (
        "Takes <d, g_i> = w*G `a_b`.\n\n    >>> kept\n\n>>> 1 < 2\nTrue\n\nAn\nend: losses\nlosses: (m,)"
    )
    shown = plain(docstring, {"losses", "gramian"})
    assert "&lt;d, g\\_i> = w\\*G `a_b`." in shown
    assert "```pycon\n>>> 1 < 2\nTrue\n```" in shown
    assert "An\nend: losses\n\n`losses`: (m,)" in shown
