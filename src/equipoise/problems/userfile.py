"""A user's own file: imported, searched for its one problem or federation, and checked before it is used."""

import sys
from collections.abc import Mapping
from dataclasses import fields
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from math import isfinite
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any, ClassVar, TypeVar, get_origin, get_type_hints

from equipoise.core.federation import Federation
from equipoise.core.problem import Metric, Problem

Wanted = TypeVar("Wanted", Problem, Federation)


class ProblemError(ValueError):
    """A problem or federation that cannot be built; the message names it and what is wrong."""


def load(path: Path, base: type[Wanted]) -> type[Wanted]:
    """The one subclass of `base` (Problem or Federation) that the Python file `path` defines, complete.

    The file is run, and its folder joins the end of `sys.path`, so that it may import its neighbours.
    Raises ProblemError where it is absent, does not import, defines none or several, or an incomplete one.
    """
    path = path.resolve()
    if not path.is_file():
        start = f"equipoise init {path.name}{' --federation' if base is Federation else ''}"
        raise ProblemError(f"there is no file {path}; `{start}` writes one to start from")
    kind = only_subclass(imported(path), base, str(path))
    check(kind, str(path))
    return kind


def only_subclass(module: ModuleType, base: type[Wanted], where: str) -> type[Wanted]:
    """The one subclass of `base` that a module defines itself; ProblemError where it is not one."""
    kinds = _own(module, base)
    if len(kinds) == 1:
        return kinds[0]
    found = f"defines {len(kinds)}: {', '.join(k.__name__ for k in kinds)}" if kinds else "defines none"
    other = Problem if base is Federation else Federation
    beside = "" if kinds else "".join(f"; {k.__name__} is a {term(other)}" for k in _own(module, other))
    raise ProblemError(f"{where} must define one subclass of equipoise.{base.__name__}, but {found}{beside}")


def term(base: type[Problem] | type[Federation]) -> str:
    """What a base class is called: "problem" or "federation", as on the cards."""
    return base.__name__.lower()


def check(kind: type[Problem] | type[Federation], where: str) -> None:
    """Raise ProblemError, with everything that is wrong, where a problem or federation is incomplete."""
    if issubclass(kind, Federation):
        base, own = Federation, _bad_federation(kind)
    else:
        base, own = Problem, [*_bad_objectives(kind), *_bad_numbers(kind)]
    faults = [*_missing(kind), *own, *_not_a_dataclass(kind)]
    if faults:
        raise ProblemError(f"{where}: the {term(base)} {kind.__name__} is incomplete: {'; '.join(faults)}")


def imported(path: Path) -> ModuleType:
    """The module of a file, whose folder joins the end of `sys.path`; ProblemError where that fails."""
    name = f"equipoise_problem_{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ProblemError(f"{path}{_line(error, path)} does not import: {describe(error)}") from error
    return module


def _own(module: ModuleType, base: type[Any]) -> list[type[Any]]:
    own = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, base) and kind.__module__ == module.__name__
    ]
    return list(dict.fromkeys(own))


def describe(error: BaseException) -> str:
    """An error's class and words."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _line(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return ""  # its own words name the line
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {lines[-1]}," if lines else ""


def _missing(kind: type[Problem] | type[Federation]) -> list[str]:
    names = sorted(getattr(kind, "__abstractmethods__", ()))
    properties = [name for name in names if isinstance(getattr(kind, name), property)]
    return [f"{'property' if name in properties else 'method'} {name} is missing" for name in names]


def _bad_federation(kind: type[Federation]) -> list[str]:
    metric, rate = kind.metric, kind.learning_rate
    faults = []
    if not _is_metric(metric):
        faults.append(f"metric must be Metric(name, 'higher' or 'lower'), not {metric!r}")
    if not _positive(rate):
        faults.append(f"learning_rate is {rate!r}, not a positive number")
    return faults


def _bad_objectives(kind: type[Problem]) -> list[str]:
    objectives: Any = getattr(kind, "objectives", None)
    metrics: Any = getattr(kind, "metrics", None)
    if not isinstance(objectives, tuple | list) or not all(isinstance(name, str) for name in objectives):
        return ["objectives must be a tuple of names"]
    faults = []
    if len(objectives) < 2:
        faults.append("it takes at least two objectives to disagree")
    if len(set(objectives)) != len(objectives):
        faults.append("two objectives have the same name")
    faults += [
        f"objective {name!r} cannot name a file; use letters, digits, spaces, and - _ + ."
        for name in objectives
        if not name.strip(" .") or any(not (sign.isalnum() or sign in " -_+.") for sign in name)
    ]
    if not isinstance(metrics, Mapping):
        return [*faults, "metrics must map each objective to a Metric"]
    faults += [f"objective {name!r} has no metric" for name in objectives if name not in metrics]
    faults += [f"metric {name!r} has no objective" for name in metrics if name not in objectives]
    return faults + [
        f"the metric of {name!r} must be Metric(name, 'higher' or 'lower'), not {metric!r}"
        for name, metric in metrics.items()
        if not _is_metric(metric)
    ]


def _bad_numbers(kind: type[Problem]) -> list[str]:
    faults = []
    epochs, rates = kind.epochs, kind.learning_rates
    if type(epochs) is not int or epochs < 1:
        faults.append(f"epochs is {epochs!r}, not a whole number from 1")
    if not isinstance(rates, tuple | list) or not rates or not all(_positive(rate) for rate in rates):
        faults.append(f"learning_rates is {rates!r}, not a tuple of positive numbers")
    return faults


def _is_metric(metric: Any) -> bool:
    return isinstance(metric, Metric) and metric.better in ("higher", "lower")


def _positive(number: Any) -> bool:
    return isinstance(number, int | float) and isfinite(number) and number > 0


def _not_a_dataclass(kind: type[Problem] | type[Federation]) -> list[str]:
    try:
        hints = get_type_hints(kind)
    except Exception as error:
        return [f"its annotations cannot be read ({describe(error)})"]
    options = [n for n, hint in hints.items() if hint is not ClassVar and get_origin(hint) is not ClassVar]
    lost = [name for name in options if name not in {field.name for field in fields(kind)}]
    return [f"{', '.join(lost)} cannot be set, for @dataclass is missing above the class"] if lost else []
