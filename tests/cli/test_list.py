"""`equipoise list` in a process of its own: what it prints, how soon, and what it leaves unimported."""

import json
import time
from pathlib import Path

import pytest
from tests.cli.command import equipoise

import equipoise as package
from equipoise.core.card import ROOMS, cards


def names(*arguments: str) -> list[str]:
    lines = equipoise("list", *arguments).stdout.splitlines()
    assert lines[0].startswith("NAME")
    return [line.split()[0] for line in lines[1:]]


def test_every_card_has_one_line():
    assert names() == [name for room in ROOMS for name in cards(room)]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_listed_alone(room: str):
    assert names(room) == list(cards(room))


def test_guarantee_keeps_those_that_promise_it():
    promised = [card.name for room in ROOMS for card in cards(room).values() if card.promises("HOMOGENEOUS")]
    assert names("--guarantee", "homogeneous") == promised
    assert 0 < len(promised) < len(names())


def test_json_holds_whole_cards():
    listed = json.loads(equipoise("list", "aggregation", "--json").stdout)
    assert {entry["name"] for entry in listed} == set(cards("aggregation"))
    mean = next(entry for entry in listed if entry["name"] == "Mean")
    assert mean["room"] == "aggregation"
    assert tuple(mean["guarantees"]) == cards("aggregation")["Mean"].guarantees


def test_every_method_file_of_a_room_is_listed():
    """A file that defines a class of its own name has a card, else nobody would find it."""
    for room in ("aggregation", "scalarization"):
        classes = {
            path.stem
            for path in (Path(package.__file__).parent / room).glob("*.py")
            if f"\nclass {path.stem}(" in path.read_text(encoding="utf-8").lower()
        }
        assert classes - {name.lower() for name in cards(room)} == set()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("aggregations",), "nearest: aggregation"),
        (("--guarantee", "simplx"), "nearest: SIMPLEX"),
        (("--nothing",), "--nothing"),
    ],
)
def test_what_is_unknown_is_a_usage_error_that_names_the_nearest(arguments: tuple[str, ...], said: str):
    run = equipoise("list", *arguments, code=2)
    assert run.stdout == ""
    assert said in run.stderr


def test_list_answers_within_half_a_second():
    """The best of five: a loaded machine delays a start, it never hastens one."""

    def seconds() -> float:
        began = time.perf_counter()
        equipoise("list")
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.5


@pytest.mark.parametrize(
    "arguments", [("list",), ("list", "--json"), ("show", "Mean"), ("--help",), ("--version",)]
)
def test_nothing_heavy_is_imported(arguments: tuple[str, ...]):
    run = equipoise(*arguments, interpreter=("-X", "importtime"))
    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if "|" in line}
    assert "equipoise.cli.main" in imported or "typer" in imported
    assert imported & {"torch", "numpy", "plotly", "sklearn", "pydantic"} == set()
