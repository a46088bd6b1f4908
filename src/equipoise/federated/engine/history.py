"""The history of a federated run: one record a round, all of it JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite, nan
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One round.

    asked: who was asked. lost: who never answered. quarantined: whose reply was refused, and why.
    loss: mean training loss of each client that counted, over its local steps. weights: of each reply
    in the update, where the server has such. down, up: bytes to those asked, and of the replies that
    counted. judged: {client: {"loss", "score"}} of the new model on the split that is watched, in rounds
    that evaluate. conflict: mean and least cosine between updates, and the share of pairs that oppose each
    other; cosines: the names and the whole matrix, in the last round alone. notes: what the server says
    besides.
    """

    number: int
    asked: tuple[str, ...]
    lost: tuple[str, ...] = ()
    quarantined: Mapping[str, str] = field(default_factory=dict)
    loss: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    down: int = 0
    up: int = 0
    judged: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    conflict: Mapping[str, float] = field(default_factory=dict)
    cosines: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values; None for what is not finite."""
        return _finite(asdict(self))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Record":
        """The record again, NaN for None among its numbers; raises TypeError for unknown keys."""
        plain: dict[str, Any] = dict(values)
        plain |= {key: tuple(plain[key]) for key in ("asked", "lost")}
        plain |= {key: _numbers(plain[key]) for key in ("loss", "weights", "conflict") if key in plain}
        plain["judged"] = {name: _numbers(found) for name, found in plain.get("judged", {}).items()}
        return cls(**plain)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _numbers(found: Mapping[str, float | None]) -> dict[str, float]:
    return {name: nan if value is None else value for name, value in found.items()}
