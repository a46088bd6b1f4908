"""Options of a problem or federation: the fields of its dataclass, set by name, from text or from values."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from equipoise.core.errors import unknown
from equipoise.core.federation import Federation
from equipoise.core.problem import Problem

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def settable(kind: type[Problem] | type[Federation]) -> dict[str, Any]:
    """The options of a problem or federation, each with its type."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind) if field.init}


def parse_options(
    name: str, kind: type[Problem] | type[Federation], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of `given` as the fields of `kind` want them; text is read by the field's type.

    Raises ValueError for an option that what is called `name` does not have, with its nearest neighbours,
    and for a value that does not fit, with the type that would.
    """
    types = settable(kind)
    values = {}
    for option, value in given.items():
        if option not in types:
            raise ValueError(unknown(f"option of {name}", option, types))
        try:
            values[option] = _fit(value, types[option])
        except ValueError:
            wanted = _say(types[option])
            raise ValueError(f"{name}: option {option} takes {wanted}, but was given {value!r}") from None
    return values


def _fit(value: Any, hint: Any) -> Any:
    """`value` as the type `hint` has it, text read by that type; ValueError where it cannot be."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _first_fit(value, sorted(arguments, key=lambda kind: kind is not NoneType))
    if origin is Literal:
        return _only(choice for choice in arguments if value == choice or value == str(choice))
    if origin in (tuple, list):
        return origin(_items(value, arguments))
    if hint is NoneType:
        return _only(None for word in ("none", "None", None) if value == word)
    if hint is Any:
        return value
    if isinstance(value, str):
        return _read(value, hint)
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise ValueError


def _read(text: str, kind: Any) -> Any:
    if kind is bool:
        return _only(truth for word, truth in _TRUTH.items() if word == text.lower())
    if kind in (int, float, str, Path):
        return kind(text)
    raise ValueError


def _items(value: Any, kinds: tuple[Any, ...]) -> list[Any]:
    if not isinstance(value, str | tuple | list):
        raise ValueError
    parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    same = len(kinds) == 1 or (len(kinds) == 2 and kinds[1] is Ellipsis)
    wanted = kinds[:1] * len(parts) if same else kinds
    return [_fit(part, kind) for part, kind in zip(parts, wanted, strict=True)]


def _first_fit(value: Any, kinds: Iterable[Any]) -> Any:
    for kind in kinds:
        try:
            return _fit(value, kind)
        except ValueError:
            continue
    raise ValueError


def _only(found: Iterable[Any]) -> Any:
    for value in found:
        return value
    raise ValueError


def _say(hint: Any) -> str:
    plain = isinstance(hint, type) and not get_args(hint)
    return hint.__name__ if plain else str(hint).replace("typing.", "")
