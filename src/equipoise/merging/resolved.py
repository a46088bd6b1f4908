"""Resolved: from a specification and the place of each tensor, the rule that merges it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any

from equipoise.core.errors import unknown
from equipoise.merging.mergerule import MergeRule
from equipoise.merging.methods import method_kind
from equipoise.merging.options import build, fields_of
from equipoise.merging.settings import NOTHING, filters_of, value_at
from equipoise.merging.specification import MergeSpecification

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a tensor of the merged model stands.

    `depth` runs from 0 at the first layer to 1 at the last, and is 0 outside of the layers. `tensors` are its
    names in the models that hold it, `own` the options of each of these alone, the nearest first, and
    `shared` those of its slice.
    """

    depth: float
    tensors: Mapping[str, str]
    own: Mapping[str, tuple[Options, ...]]
    shared: Options


class Resolved:
    """Called with the name of a tensor, gives its rule: one object for equal options and models."""

    def __init__(
        self, specification: MergeSpecification, names: Sequence[str], places: Mapping[str, Place]
    ) -> None:
        self._specification = specification
        self._names = tuple(names)
        self._places = places
        self._rules: dict[str, MergeRule] = {}

    def __call__(self, tensor: str) -> MergeRule:
        method, options = self.options(tensor)
        members = sorted(self._places[tensor].tensors)
        key = json.dumps([method, options, members], sort_keys=True, default=repr)
        if key not in self._rules:
            self._rules[key] = build(method, options)
        return self._rules[key]

    def options(self, tensor: str) -> tuple[str, dict[str, Any]]:
        """The method of a tensor, and those of its options that are given anywhere."""
        told, place = self._specification, self._places[tensor]
        rule = next((rule for rule in told.rules if rule.filter in tensor), None)
        if rule is not None and rule.method is not None:
            method, first, own, last = rule.method, (rule.options,), {}, ()
        else:
            first = () if rule is None else (rule.options,)
            method, own, last = told.method, place.own, (place.shared, told.options)
        kind, found = method_kind(method), {}
        for option, field in fields_of(kind).items():
            if option not in kind.per_model:
                value = _first((*first, *last), option, tensor, place.depth)
            else:
                values = {
                    name: self._of_model(
                        name,
                        _first(
                            (*first, *own.get(name, ()), *last),
                            option,
                            place.tensors.get(name, tensor),
                            place.depth,
                        ),
                    )
                    for name in self._names
                }
                usual = NOTHING if field.default is MISSING else field.default
                value = _together(f"{kind.__name__}: {option}", values, usual, tensor)
            if value is not NOTHING:
                found[option] = value
        return method, found

    def notes(self, tensors: Iterable[str]) -> list[str]:
        """Filters of rules and options that fit none of the tensors of the merged model."""
        told, tensors = self._specification, list(tensors)
        names = {*tensors, *(name for tensor in tensors for name in self._places[tensor].tensors.values())}
        filters = {(rule.filter, "a rule") for rule in told.rules}
        pieces = [part for piece in told.slices for part in (piece, *piece.sources)]
        for scope in (told, *told.models.values(), *pieces, *told.rules):
            for option, setting in scope.options.items():
                filters |= {(text, f"the option {option}") for text in filters_of(setting)}
        return [
            f"no tensor has {text!r} in its name, the filter of {where}; it does nothing"
            for text, where in sorted(filters)
            if not any(text in name for name in names)
        ]

    def _of_model(self, name: str, value: Any) -> Any:
        """One model's part of a value that is given for all by name or in their order."""
        if isinstance(value, Mapping):
            for given in value:
                if given not in self._names:
                    raise ValueError(unknown("model", str(given), self._names))
            if name not in value:
                raise ValueError(f"values {dict(value)} are given by model, and none for {name}")
            return value[name]
        if isinstance(value, list | tuple):
            if len(value) != len(self._names):
                models = ", ".join(self._names)
                raise ValueError(f"{len(value)} values {list(value)} for {len(self._names)} models: {models}")
            return value[self._names.index(name)]
        return value


def _first(scopes: Iterable[Options], option: str, tensor: str, depth: float) -> Any:
    """The value of an option in the first scope that has one for this tensor."""
    for scope in scopes:
        if option in scope and (value := value_at(scope[option], tensor, depth)) is not NOTHING:
            return value
    return NOTHING


def _together(option: str, values: Mapping[str, Any], default: Any, tensor: str) -> Any:
    """The values of all models as one where they are equal; the default for those that have none.

    Raises ValueError where there is no number by default.
    """
    lost = [name for name, value in values.items() if value is NOTHING]
    if len(lost) == len(values):
        return NOTHING
    if lost and not isinstance(default, int | float):
        raise ValueError(
            f"{option} has no value for {', '.join(lost)} in tensor {tensor!r}, and one for others; "
            "give it to all"
        )
    found = {name: default if value is NOTHING else value for name, value in values.items()}
    one = next(iter(found.values()))
    return one if all(value == one for value in found.values()) else found
