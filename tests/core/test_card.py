import subprocess
import sys

import pytest

from equipoise.core.card import Card, card, cards, parse_guarantee, read_card

TEXT = """
CARD = Card(name="Toy", shape="gramian", summary="x " "y", guarantees=("HOMOGENEOUS(1)", "SIMPLEX"),
            year=2020, authors=("A. One", "B. Two"), title="On toys", arxiv="2001.00001")
raise RuntimeError("this file must not be run")
"""


def test_a_card_is_read_without_running_its_file(tmp_path):
    (tmp_path / "toy.py").write_text(TEXT)
    card = read_card(tmp_path / "toy.py")
    assert card is not None
    assert card.summary == "x y"
    assert card.degree() == 1.0
    assert card.promises("SIMPLEX")
    assert not card.promises("CONVEX")
    assert card.citation() == "A. One, B. Two. (2020). On toys. arXiv:2001.00001"


def test_a_card_that_computes_is_refused(tmp_path):
    (tmp_path / "toy.py").write_text('CARD = Card(name="T" + str(1), shape="row", summary="")')
    with pytest.raises(ValueError, match=r"toy\.py: every field of CARD must be a literal"):
        read_card(tmp_path / "toy.py")


def test_guarantees_are_known_words():
    assert parse_guarantee("HOMOGENEOUS(-0.5)") == ("HOMOGENEOUS", -0.5)
    with pytest.raises(ValueError, match="no guarantee 'NICE'"):
        parse_guarantee("NICE")
    for room in ("aggregation", "scalarization"):
        for one in cards(room).values():
            assert all(parse_guarantee(guarantee) for guarantee in one.guarantees), one.name


def test_reading_cards_does_not_import_torch():
    code = """
import sys
from equipoise.core.card import cards
cards("problems")
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_card_is_frozen():
    card = Card(name="Toy", shape="row", summary="")
    with pytest.raises(AttributeError):
        card.name = "Other"  # type: ignore[misc]


def test_one_card_is_found_by_its_name_in_any_case():
    assert card("aggregation", "upgrad") == card("aggregation", "UPGrad") == cards("aggregation")["UPGrad"]
    assert card("aggregation", "../core/card") is None
    assert card("aggregation", "nothing") is None
