"""What the page for people from elsewhere says is there, is there."""

import re
from importlib import import_module
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "migrating.md"
ROOMS = ("aggregation", "scalarization", "merging", "federated", "bridges", "bridges.flower")


def ours() -> set[str]:
    """Every public name."""
    modules = [import_module("equipoise"), *(import_module(f"equipoise.{room}") for room in ROOMS)]
    return {name for module in modules for name in module.__all__}


def test_names_in_the_column_of_ours_are_public():
    cells = [
        line.split("|")[2] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")
    ]
    words = {word for cell in cells for word in re.findall(r"\b[A-Z][A-Za-z]+\b(?=\(|`)", cell)}
    assert len(words) > 20
    assert sorted(words - ours() - {"None"}) == []


def test_what_the_examples_of_ours_import_exists():
    found = re.findall(r"from (equipoise[\w.]*) import (.+)", PAGE.read_text(encoding="utf-8"))
    assert found
    for module, names in found:
        for name in names.split(", "):
            assert hasattr(import_module(module), name), f"{module}.{name}"
