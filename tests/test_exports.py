"""What a room holds is exported, and what is exported exists."""

import importlib
from pathlib import Path

import pytest
from docs.pages import public

import equipoise
from equipoise.core.card import cards

FACES = public()


@pytest.mark.parametrize(
    "room", ["aggregation", "scalarization", "pareto", "merging", "federated", "scaling"]
)
def test_every_card_is_exported_under_its_name(room: str):
    named = {name for name, card in cards(room).items() if card.shape != "parametrisation"}
    assert named - set(FACES[f"equipoise.{room}"]) == set()


def test_every_score_is_exported_under_its_name_in_lower_case():
    exported = {name.lower() for name in FACES["equipoise.transferability"]}
    assert {name.lower() for name in cards("transferability")} - exported == set()


@pytest.mark.parametrize(
    "room", ["aggregation", "scalarization", "pareto", "merging", "transferability", "federated", "problems"]
)
def test_a_card_stands_in_the_file_of_its_name(room: str):
    folder = Path(equipoise.__file__).parent / room
    files = {path.stem for path in folder.glob("*.py")}
    assert {name.lower().replace("-", "") for name in cards(room)} - files == set()


@pytest.mark.parametrize("package", sorted(FACES))
def test_every_exported_name_can_be_imported_and_has_a_docstring(package: str):
    module = importlib.import_module(package)
    for name, where in FACES[package].items():
        assert getattr(module, name).__doc__, f"{where} has no docstring, so it would have no page"
