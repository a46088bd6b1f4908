"""Systems by name, with options, as the command line gives them."""

from collections.abc import Callable
from importlib import import_module
from inspect import signature
from typing import Any

import yaml

from equipoise.core.card import RULE_ROOMS, RULE_SHAPES, cards
from equipoise.core.errors import unknown
from equipoise.federated.algorithm import Algorithm


def systems() -> dict[str, tuple[str, str]]:
    """{name: (room, shape)} of everything that can stand at the server: systems, and rules of the library.

    `ByRule` is none: a rule is asked for by its own name.
    """
    rooms = ("federated", *RULE_ROOMS)
    return {
        name: (room, card.shape)
        for room in rooms
        for name, card in cards(room).items()
        if (card.shape == "federated" and name != "ByRule") or card.shape in RULE_SHAPES
    }


def algorithm(text: str) -> Algorithm:
    """The system that a text names, in any case, with options as NAME:OPTION=VALUE:...

    A rule of the rooms aggregation and scalarization becomes the server's rule (`ByRule`). Values are
    read as YAML: numbers, true, null, words. Raises ValueError for an unknown name or option, with the
    nearest ones, and for a value that the system refuses.

    >>> algorithm("fedprox:mu=0.1")
    FedProx(ProximalClient, Averaging)
    """
    name, *given = text.strip().split(":")
    known = systems()
    folded = {each.lower(): each for each in known}
    if name.lower() not in folded:
        raise ValueError(unknown("federated system or rule", name, known))
    room, shape = known[folded[name.lower()]]
    made = _built(text, getattr(import_module(f"equipoise.{room}"), folded[name.lower()]), given)
    if shape == "federated":
        return made
    from equipoise.federated.byrule import ByRule

    return ByRule(made)


def _built(text: str, kind: Callable[..., Any], given: list[str]) -> Any:
    known = list(signature(kind).parameters)
    options: dict[str, Any] = {}
    for part in given:
        key, sign, value = part.partition("=")
        if not sign:
            raise ValueError(f"{text}: {part!r} is no option; write NAME:OPTION=VALUE")
        if key not in known:
            raise ValueError(f"{text}: {unknown('option', key, known)}")
        options[key] = yaml.safe_load(value)
    try:
        return kind(**options)
    except TypeError as error:
        raise ValueError(f"{text}: {error}") from error
