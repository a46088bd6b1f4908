"""The options of a merging method as a specification gives them: checked early, then built into a rule."""

from collections.abc import Mapping
from dataclasses import MISSING, Field
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from equipoise.core.errors import unknown
from equipoise.merging.mergerule import MergeRule
from equipoise.merging.methods import method_kind
from equipoise.merging.settings import NOTHING, is_choice, is_gradient, number


def check_options(
    method: str,
    options: Mapping[str, Any],
    model: str | None = None,
    shared: Mapping[str, Any] | None = None,
) -> None:
    """Raise ValueError for an option that the method, or one of its models alone, does not have or take.

    shared: options that hold beside these, where these do not say otherwise.
    """
    kind = method_kind(method)
    known = fields_of(kind)
    for name, setting in options.items():
        if name not in known:
            raise ValueError(f"{kind.__name__}: {unknown('option', str(name), known)}")
        if model is not None and name not in kind.per_model:
            raise ValueError(
                f"{kind.__name__}: {name} is one for all models, not one of {model}; set it in options"
            )
        for value in _values(setting):
            _converted(kind, name, value)
    beside = {**(shared or {}), **options}
    usual = {name: values[0] for name, setting in beside.items() if (values := _values(setting))}
    if _lost(kind, usual) or sum(map(is_choice, beside.values())) > 1:  # tensors tell which values meet
        return
    for name, setting in options.items():
        for value in _values(setting):
            build(method, {**usual, name: value})


def build(method: str, options: Mapping[str, Any]) -> MergeRule:
    """The rule of a method with resolved options.

    Raises ValueError where an option is wrong or one without a default is not given.
    """
    kind: Any = method_kind(method)
    if lost := _lost(kind, options):
        raise ValueError(f"{kind.__name__} needs the option {', '.join(lost)}")
    try:
        return kind(**{name: _converted(kind, name, value) for name, value in options.items()})
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from error


def defaults_of(method: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The options of a method that have plain values by default, where `options` are given, with these."""
    kind = method_kind(method)
    given = {
        name: value
        for name, value in (options or {}).items()
        if not is_gradient(value) and not is_choice(value)
    }
    try:
        usual: Any = build(method, given)
    except ValueError:
        usual = None  # an option without a default is a gradient or not given
    found = {}
    for name, field in fields_of(kind).items():
        value = getattr(usual, name, field.default)
        if isinstance(value, bool | int | float | str):
            found[name] = value
    return found


def fields_of(kind: type[MergeRule]) -> dict[str, "Field[Any]"]:
    """The options of a kind of rule."""
    fields: dict[str, Field[Any]] = kind.__dataclass_fields__  # pyright: ignore[reportAttributeAccessIssue]
    return {name: field for name, field in fields.items() if field.init}


def _lost(kind: type[MergeRule], options: Mapping[str, Any]) -> list[str]:
    """The options without a default that are not given."""
    return [
        name
        for name, field in fields_of(kind).items()
        if field.default is MISSING and field.default_factory is MISSING and name not in options
    ]


def _values(setting: Any) -> list[Any]:
    """All plain values that a setting may take."""
    if is_gradient(setting):
        return list(setting["gradient"])
    if is_choice(setting):
        return [value for case in setting for value in _values(case["value"])]
    return [] if setting is NOTHING else [setting]


def _converted(kind: type[MergeRule], name: str, value: Any) -> Any:
    """An option's value as the rule takes it: numbers that YAML took for words, methods by name."""
    if isinstance(value, Mapping) and "method" in value and set(value) <= {"method", "options"}:
        return build(value["method"], value.get("options") or {})
    kinds = _kinds(get_type_hints(kind)[name])
    words = [word for one in kinds if get_origin(one) is Literal for word in get_args(one)]
    told = number(value)
    if words and isinstance(told, str) and told not in words and str not in kinds:
        raise ValueError(f"{kind.__name__}: {name}: {unknown('choice', told, map(str, words))}")
    if isinstance(value, str) and MergeRule in kinds:
        return build(value, {})
    numbers = {int, float} & set(kinds)
    if numbers and str not in kinds and value not in words:
        return _number(kind, name, value, whole=float not in kinds, empty=NoneType in kinds)
    if kinds == [bool] and not isinstance(value, bool):
        raise ValueError(f"{kind.__name__}: {name} is true or false, not {value!r}")
    return value


def _number(kind: type[MergeRule], name: str, value: Any, *, whole: bool, empty: bool) -> Any:
    """A number, or numbers by model; None where the option may be left empty."""
    if value is None and empty:
        return value
    if isinstance(value, Mapping) and name in kind.per_model:
        return {one: _alone(kind, f"{name} of {one}", part, whole) for one, part in value.items()}
    if isinstance(value, list | tuple) and name in kind.per_model:
        return [_alone(kind, f"{name}[{i}]", part, whole) for i, part in enumerate(value)]
    return _alone(kind, name, value, whole)


def _alone(kind: type[MergeRule], name: str, value: Any, whole: bool) -> Any:
    """A number for all models, or for one."""
    told = number(value)
    if not isinstance(told, int | float) or isinstance(told, bool) or (whole and told % 1 != 0):
        raise ValueError(f"{kind.__name__}: {name} is a {'whole ' if whole else ''}number, not {value!r}")
    return int(told) if whole else told


def _kinds(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, UnionType):
        return [kind for one in get_args(hint) for kind in _kinds(one)]
    return [hint]
