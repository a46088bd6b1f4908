"""Participation: which clients are asked in a round, which of them do not answer, how much each does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from equipoise.core.errors import unknown
from equipoise.federated.engine.seeds import generator


@dataclass(frozen=True, slots=True)
class Turn:
    """Who is asked in a round, in the federation's order, the share of the work of each, and who is lost."""

    names: tuple[str, ...]
    efforts: tuple[float, ...]
    lost: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Participation:
    """Who takes part in a round. Draws depend on the seed, the round and the client's place among all
    clients.

    count: how many clients are asked, drawn without replacement; None for all. fraction: the same as a share.
    probability: each client is asked on its own with this probability, one for all or by name; a round
    may then be without anybody. dropout: the probability that one who was asked never answers.
    effort: the share of its local steps that a client does, drawn evenly from (low, high) in each round,
    or fixed by name.

    Raises ValueError where two of count, fraction and probability are given, or one is out of range.
    """

    count: int | None = None
    fraction: float | None = None
    probability: float | Mapping[str, float] | None = None
    dropout: float = 0.0
    effort: tuple[float, float] | Mapping[str, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        ways = {"count": self.count, "fraction": self.fraction, "probability": self.probability}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given; one of them says who is asked")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count is {self.count}; a round asks one client at least")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ValueError(f"fraction is {self.fraction}; it is in (0, 1]")
        chances = _values(self.probability)
        if not all(0 < chance <= 1 for chance in chances):
            raise ValueError(f"probability is {self.probability}; each is in (0, 1]")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it is in [0, 1)")
        if not all(0 < share <= 1 for share in _values(self.effort)):
            raise ValueError(f"effort is {self.effort}; each share is in (0, 1]")
        if not isinstance(self.effort, Mapping) and self.effort[0] > self.effort[1]:
            raise ValueError(f"effort is {self.effort}; the lower bound comes first")

    def check(self, clients: Sequence[str]) -> None:
        """Raise ValueError where a client is named that there is not, or more are asked than there are."""
        for mapping in (self.probability, self.effort):
            for name in mapping if isinstance(mapping, Mapping) else ():
                if name not in clients:
                    raise ValueError(unknown("client", name, clients))
        if self.count is not None and self.count > len(clients):
            raise ValueError(f"count is {self.count}, but there are {len(clients)} clients")

    def turn(self, clients: Sequence[str], seed: int, number: int) -> Turn:
        """Who takes part in round `number`."""
        asked = self._asked(clients, seed, number)
        draws = generator(seed, "dropout", number)
        chance = torch.rand(len(clients), generator=draws).tolist()
        lost = frozenset(n for n, c in zip(clients, chance, strict=True) if c < self.dropout and n in asked)
        return Turn(asked, tuple(self._efforts(clients, asked, seed, number)), lost)

    def chance(self, client: str, clients: Sequence[str]) -> float:
        """The probability that this client answers in a round."""
        return self._asking(client, clients) * (1 - self.dropout)

    def _asking(self, client: str, clients: Sequence[str]) -> float:
        if self.probability is None:
            return self._size(clients) / len(clients)
        if isinstance(self.probability, Mapping):
            return self.probability.get(client, 1.0)
        return self.probability

    def _size(self, clients: Sequence[str]) -> int:
        if self.fraction is not None:
            return max(1, round(self.fraction * len(clients)))
        return self.count or len(clients)

    def _asked(self, clients: Sequence[str], seed: int, number: int) -> tuple[str, ...]:
        draws = generator(seed, "asked", number)
        if self.probability is not None:
            chance = torch.rand(len(clients), generator=draws).tolist()
            taken = [drawn < self._asking(n, clients) for n, drawn in zip(clients, chance, strict=True)]
            return tuple(name for name, yes in zip(clients, taken, strict=True) if yes)
        size = self._size(clients)
        if size == len(clients):
            return tuple(clients)
        drawn = torch.randperm(len(clients), generator=draws)[:size].sort().values.tolist()
        return tuple(clients[int(i)] for i in drawn)

    def _efforts(self, clients: Sequence[str], asked: Sequence[str], seed: int, number: int) -> list[float]:
        if isinstance(self.effort, Mapping):
            return [self.effort.get(name, 1.0) for name in asked]
        low, high = self.effort
        if low == high:
            return [low] * len(asked)
        drawn = torch.rand(len(clients), generator=generator(seed, "effort", number)).tolist()
        place = {name: i for i, name in enumerate(clients)}
        return [low + (high - low) * drawn[place[name]] for name in asked]


def _values(setting: Any) -> Sequence[float]:
    if setting is None:
        return ()
    if isinstance(setting, Mapping):
        return tuple(setting.values())
    return (setting,) if isinstance(setting, float | int) else tuple(setting)
