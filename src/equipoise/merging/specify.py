"""Reading a specification: a file of this project or of mergekit, keys set on top, and all checked."""

import json
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.composer import ComposerError

from equipoise.core.tensorfile import named
from equipoise.merging.mergekit import translated
from equipoise.merging.specification import MergeSpecification

PEER = "merge_method"
"""The key that files of mergekit have, and ours have not."""


def specify(given: Mapping[str, Any], about: str = "") -> MergeSpecification:
    """A specification of plain values; mergekit's form is read where the key `merge_method` is given.

    Raises ValueError naming the key at fault, `about` before it.
    """
    about = f"{about}: " if about else ""
    try:
        return MergeSpecification.model_validate(translated(given) if PEER in given else given)
    except ValidationError as error:
        told = [
            ": ".join(filter(None, [".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")]))
            for e in error.errors()
        ]
        raise ValueError(about + "; ".join(told)) from error
    except ValueError as error:
        raise ValueError(about + str(error)) from error


def read_specification(path: str | Path) -> dict[str, Any]:
    """The content of a specification's file: TOML or JSON by its name, else YAML; mergekit's translated.

    Raises ValueError where it is none of them or no mapping, FileNotFoundError.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix.lower() == ".toml":
            found = tomllib.loads(text)
        elif path.suffix.lower() == ".json":
            found = json.loads(text)
        else:
            found = yaml.safe_load(text)
    except ComposerError as error:
        raise ValueError(
            f"{path}: holds several documents or none; give each merge a file of its own"
        ) from error
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"{path}: no YAML{_place(error)}: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(
            f"{path}: not readable as a specification: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise ValueError(f"{path}: a specification is a mapping with the key models, not {kind}")
    try:
        return translated(found) if PEER in found else found
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _place(error: yaml.MarkedYAMLError) -> str:
    """Line and column, counted from 1, where a file is no YAML."""
    mark = error.problem_mark
    return "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"


def changed(given: Mapping[str, Any], assignments: Mapping[str, str]) -> dict[str, Any]:
    """A specification with keys set: `density=0.2` is an option of the method, `NAME.weight=2` of a model.

    A key of the specification itself comes first, and dots lead into it: `dtype=float16`,
    `models.NAME.path=...`. A model's name may hold dots. Values are read as YAML.

    Raises ValueError for a value that is no YAML, and a key below one that has none.

    >>> changed({"models": {"a": "a"}}, {"scale": "0.3"})
    {'models': {'a': 'a'}, 'options': {'scale': 0.3}}
    """
    found: dict[str, Any] = deepcopy(dict(given))
    if isinstance(found.get("models"), list):
        found["models"] = {name: str(path) for name, path in named(list(map(str, found["models"]))).items()}
    for key, text in assignments.items():
        words = _path(key, found.get("models"))
        place: dict[str, Any] = found
        for word in words[:-1]:
            below = place.setdefault(word, {})
            if isinstance(below, str) and place is found.get("models"):
                below = place[word] = {"path": below}
            if not isinstance(below, dict):
                raise ValueError(f"--set {key}: {word} holds {below!r}, which has no keys")
            place = below
        try:
            place[words[-1]] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"--set {key}: {text!r} is no value ({' '.join(str(error).split())})") from error
    return found


def _path(key: str, models: Any) -> list[str]:
    """The keys that lead to what is set; the names of models may hold dots themselves."""
    first, _, rest = key.partition(".")
    within = first if first in ("models", "statistics") and rest else None
    if first in MergeSpecification.model_fields and within is None:
        return key.split(".")
    begin = key if within is None else rest
    known = [one for one in models if isinstance(one, str)] if isinstance(models, Mapping) else []
    name = max((one for one in known if f"{begin}.".startswith(f"{one}.")), key=len, default=None)
    if name is None:
        return [within, *begin.split(".")] if within is not None else ["options", *key.split(".")]
    after = begin[len(name) + 1 :]
    words = after.split(".") if after else []
    if within is not None:
        return [within, name, *words]
    return ["models", name, "options", *words] if words else ["options", *key.split(".")]
