"""The value of an option, where it may depend on the depth of the layer and on the name of the tensor."""

from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.core.errors import unknown

Plain = bool | int | float | str

NOTHING = object()
"""What `value_at` gives where no filter lets a tensor through."""


def value_at(setting: Any, tensor: str, depth: float) -> Any:
    """The value of a setting for one tensor, in a layer at a depth from 0 (first) to 1 (last).

    A mapping `{gradient: [...]}` runs through numbers, evenly spaced over the depth and straight lines
    between; words and truth values are taken from the nearest at or before. A list of
    `{filter: text, value: ...}` gives the first value whose text is part of the tensor's name, and
    `NOTHING` where there is none; no filter, or `*`, lets all through. All else is the value itself.

    >>> value_at({"gradient": [0, 1, 0]}, "layers.3.mlp", 0.75)
    0.5
    >>> value_at([{"filter": "mlp", "value": 2}, {"value": 1}], "layers.3.attn", 0.75)
    1
    """
    if is_gradient(setting):
        return _along([number(value) for value in setting["gradient"]], depth)
    if is_choice(setting):
        for case in setting:
            if (text := case.get("filter")) is None or text == "*" or text in tensor:
                return value_at(case["value"], tensor, depth)
        return NOTHING
    return setting


def is_gradient(setting: Any) -> bool:
    """Whether a setting runs over the layers."""
    return isinstance(setting, Mapping) and set(setting) == {"gradient"}


def is_choice(setting: Any) -> bool:
    """Whether a setting chooses by the names of tensors."""
    return isinstance(setting, Sequence) and bool(setting) and all(isinstance(s, Mapping) for s in setting)


def filters_of(setting: Any) -> list[str]:
    """The parts of names by which a setting chooses."""
    cases = setting if is_choice(setting) else []
    return [text for case in cases if (text := case.get("filter")) is not None and text != "*"]


def check_setting(key: str, setting: Any) -> None:
    """Raise ValueError, naming the key, for a gradient or a choice that is none."""
    if is_gradient(setting):
        values = setting["gradient"]
        if (
            not isinstance(values, list | tuple)
            or not values
            or not all(isinstance(v, Plain) for v in values)
        ):
            raise ValueError(f"{key}: a gradient is a list of numbers (or words), not {values!r}")
        return
    if not is_choice(setting):
        return
    for case in setting:
        for word in case:
            if word not in ("filter", "value"):
                raise ValueError(f"{key}: {unknown('key', str(word), ['filter', 'value'])}")
        if "value" not in case:
            raise ValueError(f"{key}: {dict(case)!r} has no value")
        if not isinstance(case.get("filter", ""), str | None):
            raise ValueError(f"{key}: a filter is a part of a tensor's name, not {case['filter']!r}")
        if is_choice(case["value"]):
            raise ValueError(f"{key}: a value that is chosen by a filter cannot hold filters again")
        check_setting(key, case["value"])


def number(value: Any) -> Any:
    """A number that YAML takes for a word, such as 1e-5, as a number; all else as it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _along(values: list[Any], depth: float) -> Any:
    place = depth * (len(values) - 1)
    at = int(place)
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return values[at]
    after = min(len(values) - 1, at + 1)
    return (1 - (place - at)) * values[at] + (place - at) * values[after]
