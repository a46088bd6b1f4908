"""The rules that a study may compare: found by their cards, built by their names."""

from collections.abc import Sequence
from importlib import import_module
from inspect import signature

import torch

from equipoise.core.card import RULE_ROOMS, RULE_SHAPES, Card, cards
from equipoise.core.errors import unknown
from equipoise.core.rule import Rule
from equipoise.pareto.solver import Solver

YARDSTICK = "Mean"
_SHAPES = (*RULE_SHAPES, "wrapper")


def rule_cards() -> dict[str, Card]:
    """The card of every rule, by name."""
    return {n: card for room in RULE_ROOMS for n, card in cards(room).items() if card.shape in _SHAPES}


def choose(names: str | Sequence[str]) -> tuple[str, ...]:
    """The rules that `"all"`, `"MGDA,CAGrad"` or a sequence of names asks for, Mean always first.

    Raises ValueError for an unknown name, with its nearest neighbours.
    """
    known = rule_cards()
    asked = [n.strip() for n in names.split(",") if n.strip()] if isinstance(names, str) else list(names)
    if isinstance(names, str) and not asked:
        raise ValueError(f"rules {names!r} name none; ask for some, as MGDA,CAGrad, or for all")
    if "all" in asked:
        asked = [*sorted(known), *(name for name in asked if name != "all")]
    for name in asked:
        if name not in known:
            raise ValueError(unknown("rule", name, known))
    return tuple(dict.fromkeys([YARDSTICK, *asked]))


def method(name: str) -> type:
    """The class of a rule, or of a wrapper, by name."""
    for room in RULE_ROOMS:
        if name in cards(room):
            return getattr(import_module(f"equipoise.{room}"), name)
    raise ValueError(unknown("rule", name, rule_cards()))


def choose_solvers(names: str | Sequence[str]) -> tuple[str, ...]:
    """The front solvers that `"all"`, `"EPO,ParetoMTL"` or a sequence of names asks for.

    Raises ValueError for an unknown name, with its nearest neighbours.
    """
    known = {name: card for name, card in cards("pareto").items() if card.shape == "front"}
    asked = [n.strip() for n in names.split(",") if n.strip()] if isinstance(names, str) else list(names)
    asked = sorted(known) if "all" in asked else asked
    for name in asked:
        if name not in known:
            raise ValueError(unknown("front solver", name, known))
    return tuple(dict.fromkeys(asked))


def build_solver(name: str, points: int | None) -> Solver:
    """A new solver with the paper's defaults, for so many points where it takes a number of them."""
    kind = getattr(import_module("equipoise.pareto"), name)
    takes = points is not None and "points" in signature(kind).parameters
    return kind(points=points) if takes else kind()


def build(name: str, objectives: Sequence[str], seed: int) -> Rule:
    """A new rule with the paper's defaults, its state laid out for `objectives`, its draws from `seed`."""
    kind = method(name)
    accepted = signature(kind).parameters
    options: dict[str, object] = {}
    if "objectives" in accepted:
        options["objectives"] = tuple(objectives)
    if "generator" in accepted:
        options["generator"] = torch.Generator().manual_seed(seed)
    return kind(**options)
