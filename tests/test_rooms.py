"""Each room exports every method that lies in it, under the name on its card."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import equipoise
from equipoise.core.card import cards, parse_guarantee, read_card

SOURCE = Path(equipoise.__file__).parent
ROOMS = ("aggregation", "scalarization")
FILES = [
    pytest.param(room, path, id=f"{room}-{path.stem}")
    for room in ROOMS
    for path in sorted((SOURCE / room).glob("*.py"))
    if not path.name.startswith("_")
]


def exports(room):
    """{class: file} of the lines `from .file import Class as Class`."""
    lines = ast.parse((SOURCE / room / "__init__.pyi").read_text(encoding="utf-8")).body
    found = {}
    for line in lines:
        assert isinstance(line, ast.ImportFrom), ast.unparse(line)
        assert line.level == 1, ast.unparse(line)
        for alias in line.names:
            assert alias.asname == alias.name, f"{room}: write `import {alias.name} as {alias.name}`"
            found[alias.name] = line.module
    return found


@pytest.mark.parametrize(("room", "path"), FILES)
def test_every_method_file_is_exported_under_its_lower_cased_name(room, path):
    card = read_card(path)
    assert card is not None, f"{path.name} has no CARD"
    assert card.name.lower() == path.stem
    assert exports(room).get(card.name) == path.stem, f"no line exports {card.name} in {room}/__init__.pyi"


@pytest.mark.parametrize("room", ROOMS)
def test_every_export_has_a_card_and_a_class_of_its_name(room):
    module = import_module(f"equipoise.{room}")
    assert set(exports(room)) == set(cards(room)) == set(module.__all__)
    for name in exports(room):
        assert getattr(module, name).__name__ == name


@pytest.mark.parametrize("room", [*ROOMS, "federated", "scaling"])
def test_exports_stand_in_the_order_of_their_files(room):
    files = list(exports(room).values())
    assert files == sorted(files)


@pytest.mark.parametrize("room", [*ROOMS, "pareto", "merging", "transferability", "federated", "scaling"])
def test_cards_say_what_a_reader_needs(room):
    for name, card in cards(room).items():
        for guarantee in card.guarantees:
            parse_guarantee(guarantee)
        assert len(set(card.guarantees)) == len(card.guarantees), name
        for field in ("summary", "formula", "single", "cost", "use", "avoid"):
            assert getattr(card, field), f"the card of {name} says nothing of {field!r}"
        if card.title:
            assert card.authors, name
            assert card.venue, name
            assert card.year, name
