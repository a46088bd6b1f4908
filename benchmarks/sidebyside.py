"""Contenders that take turns, so that what slows the machine slows all of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import quantiles

Step = Callable[[], object]


def in_turns(
    steps: Mapping[str, Step], turns: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each step in each turn, in an order that is turned round each time; one turn goes before."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(-1, turns):
        for name in list(steps) if turn % 2 else list(reversed(steps)):
            began = clock()
            steps[name]()
            if turn >= 0:
                taken[name].append(clock() - began)
    return taken


def ratio(above: Sequence[float], below: Sequence[float]) -> tuple[float, float, float]:
    """Median and quartiles of the ratios within turns."""
    low, middle, high = quantiles([a / b for a, b in zip(above, below, strict=True)], n=4)
    return middle, low, high


def shown(found: tuple[float, float, float], goal: float | None = None, *, at_most: bool = False) -> str:
    """A ratio with its quartiles, and the goal that was set for it."""
    middle, low, high = found
    text = f"{middle:.2f} ({low:.2f} to {high:.2f})"
    return text if goal is None else f"{text} [{'<=' if at_most else '>='} {goal:g}]"
