"""Merging methods by name."""

from importlib import import_module
from typing import Any

from equipoise.core.card import card, cards
from equipoise.core.errors import unknown
from equipoise.merging.mergerule import MergeRule


def method_kind(name: str) -> type[MergeRule]:
    """The class of the merging method of this name, whatever its case and dashes.

    Raises ValueError for an unknown name, with its nearest neighbours.
    """
    found = card("merging", plain(name))
    if found is None or found.shape != "merge":
        known = [one.name for one in cards("merging").values() if one.shape == "merge"]
        raise ValueError(unknown("merging method", name, known))
    return getattr(import_module("equipoise.merging"), found.name)


def method_named(name: str, **options: Any) -> MergeRule:
    """The merging method of this name, whatever its case and dashes, with options of its own.

    Raises ValueError for an unknown name or option, with its nearest neighbours.

    >>> method_named("task-arithmetic", scale=0.3).scale
    0.3
    """
    kind: Any = method_kind(name)
    known = list(kind.__dataclass_fields__)
    for option in options:
        if option not in known:
            raise ValueError(f"{kind.__name__}: {unknown('option', option, known)}")
    return kind(**options)


def plain(name: str) -> str:
    """A name as it is compared: lower case, without dashes, underscores and spaces."""
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")
