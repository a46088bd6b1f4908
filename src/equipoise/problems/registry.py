"""Problems and federations by name: a built-in one, or the path of a user's file."""

from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from equipoise.core.card import Card, cards
from equipoise.core.errors import unknown
from equipoise.core.federation import Federation
from equipoise.core.problem import Problem
from equipoise.problems.options import parse_options
from equipoise.problems.userfile import ProblemError, describe, load, only_subclass, term

Wanted = TypeVar("Wanted", Problem, Federation)

TAKEN_BY = {"problem": "equipoise run", "federation": "equipoise federate"}
"""The shapes of card in this room, each with the verb that trains it."""


def problem(name: str | Path, **options: Any) -> Problem:
    """A problem, ready to `prepare`: `name` is a built-in one, or a Python file that defines one.

    `options` set the fields of the problem; text is read by the field's type, as `--set` gives it.
    Raises ValueError for an unknown name or option, with its nearest neighbours, and ProblemError (a
    ValueError), naming the file, for a file that holds no complete problem.

    >>> problem("digits-pairs", pairs="1280").pairs
    1280
    """
    return _built(name, Problem, options)


def federation(name: str | Path, **options: Any) -> Federation:
    """A federation, ready to `prepare`: `name` is a built-in one, or a Python file that defines one.

    `options` set its fields, and errors are raised, as in `problem`.

    >>> federation("digits-clients", client_count="3").clients
    ('client-00', 'client-01', 'client-02')
    """
    return _built(name, Federation, options)


def builtin(shape: str) -> dict[str, Card]:
    """The cards of the built-in ones of a shape, "problem" or "federation", by name.

    >>> "digits-clients" in builtin("problem"), "digits-clients" in builtin("federation")
    (False, True)
    """
    return {name: card for name, card in cards("problems").items() if card.shape == shape}


def _built(name: str | Path, base: type[Wanted], options: dict[str, Any]) -> Wanted:
    kind = _kind(str(name), base)
    values = parse_options(str(name), kind, options)
    try:
        return kind(**values)
    except Exception as error:
        words = str(error) if isinstance(error, ValueError) else describe(error)
        raise ProblemError(f"{name}: {words}") from error


def _kind(name: str, base: type[Wanted]) -> type[Wanted]:
    wanted, every = term(base), cards("problems")
    if name in every:
        found = every[name].shape
        if found != wanted:
            raise ProblemError(f"{name} is a {found}, not a {wanted}; it is for `{TAKEN_BY[found]} {name}`")
        return only_subclass(import_module(f"equipoise.problems.{name.replace('-', '')}"), base, name)
    path = Path(name).expanduser()
    if path.suffix == ".py":
        return load(path, base)
    if path.exists() or len(path.parts) > 1:
        raise ProblemError(f"{name} is neither a built-in {wanted} nor a Python file (name.py)")
    raise ValueError(f"{unknown(wanted, name, builtin(wanted))}; a file of your own ends in .py")
