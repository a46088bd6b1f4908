"""Greedy choice of a set of sources under any score of sets."""

import heapq
from collections.abc import Callable, Mapping
from typing import NamedTuple

from equipoise.transferability.sample import Sample

SetScore = Callable[[Mapping[str, Sample]], float]


class Chosen(NamedTuple):
    """Sources in the order of their choice, and the score of the set after each."""

    names: tuple[str, ...]
    values: tuple[float, ...]


def choose_sources(pool: Mapping[str, Sample], score: SetScore, size: int, *, lazy: bool = False) -> Chosen:
    """A set of `size` sources of the pool, one after the other the one that gives the set the best score.

    score: of a part of the pool, as `eleep`, `msleep` or an `Osborn`; higher is better. `lazy` asks it again
    only of sources whose earlier gain could still be the best, which gives the same set where the score is
    submodular and 0 for the empty set (`msleep`, `Osborn`); without it the choice is greedy for every score.
    Of equal gains the source that stands first in the pool is taken. Nothing stops before `size`, even where
    each source lowers the score.

    Raises ValueError for a size that is not 1 to the size of the pool, and a score that is NaN, by name.

    >>> one, other = Sample([[0.0], [1.0]], [0, 1]), Sample([[0.0], [0.0]], [0, 1])
    >>> choose_sources({"a": other, "b": one}, lambda part: sum(s.features.sum() for s in part.values()), 1)
    Chosen(names=('b',), values=(1.0,))
    """
    if not 1 <= size <= len(pool):
        raise ValueError(f"size must be 1 to {len(pool)}, the sources of the pool, got {size}")

    def value(names: list[str]) -> float:
        found = float(score({name: pool[name] for name in names}))
        if found != found:
            raise ValueError(f"the score of {', '.join(names)} is NaN")
        return found

    order = {name: at for at, name in enumerate(pool)}
    heap = [(-value([name]), order[name], name) for name in pool]
    heapq.heapify(heap)
    chosen: list[str] = []
    values: list[float] = []
    total = 0.0
    while len(chosen) < size:
        if chosen and not lazy:
            heap = [(total - value([*chosen, name]), at, name) for _, at, name in heap]
            heapq.heapify(heap)
        elif chosen:
            _settle(heap, lambda name, total=total: total - value([*chosen, name]))
        cost, _, name = heapq.heappop(heap)
        total -= cost
        chosen.append(name)
        values.append(total)
    return Chosen(tuple(chosen), tuple(values))


def _settle(heap: list[tuple[float, int, str]], cost: Callable[[str], float]) -> None:
    """Until the first of the heap is one whose cost was asked for this choice: ask the first, sink it."""
    asked: set[str] = set()
    while heap[0][2] not in asked:
        _, at, name = heap[0]
        asked.add(name)
        heapq.heapreplace(heap, (cost(name), at, name))
