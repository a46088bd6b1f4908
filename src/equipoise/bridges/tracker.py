"""Tracker: an observer that hands the numbers of each step to an experiment tracker."""

import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Self

import torch

from equipoise.core.observer import Observer
from equipoise.core.optional import require
from equipoise.core.scalars import scalars
from equipoise.core.step import Step

PREFIX = "equipoise/"


class Tracker(Observer):
    """Writes what `equipoise.scalars` says of a step, under "equipoise/...", and losses after the step.

    every: write one step of so many, the first one first. layers: also the conflict within each layer.
    number: of the next step; a run that is taken up again gives the one that it goes on with, or loads the
    state. In a process group the first process writes alone. A subclass overrides `log`, and `close` where
    something is open; it is a context manager.

    Raises ValueError for an `every` below 1 or a negative `number`, and for a tracker that is closed.
    """

    def __init__(self, *, every: int = 1, layers: bool = True, number: int = 0) -> None:
        if every < 1 or number < 0:
            raise ValueError(
                f"every is {every} and number {number}; every counts steps, from 1, number is 0 or more"
            )
        self.every = every
        self.layers = layers
        self.number = number
        self.closed = False

    def log(self, values: Mapping[str, float], number: int) -> None:
        """Write numbers of step `number`."""
        raise NotImplementedError

    def combined(self, step: Step) -> None:
        if self.number % self.every == 0:
            self._write(scalars(step), self.number)
        self.number += 1

    def stepped(self, step: Step, losses: Mapping[str, float] | None = None) -> None:
        number = self.number - 1
        if losses and number >= 0 and number % self.every == 0:
            self._write({f"loss_after/{name}": float(value) for name, value in losses.items()}, number)

    def _write(self, values: Mapping[str, float], number: int) -> None:
        if self.closed:
            raise ValueError(f"{type(self).__name__} was closed; make another one for further steps")
        if first_process():
            self.log({PREFIX + name: value for name, value in values.items()}, number)

    def close(self) -> None:
        """Write what is left and let go of files; once is enough, twice does no harm."""
        self.closed = True

    def state_dict(self) -> dict[str, int]:
        """The number of the next step."""
        return {"number": self.number}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.number = int(state["number"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def first_process() -> bool:
    """Whether this is the only process, or the first of its group."""
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized() and distributed.get_rank())


def silent(module: str, variables: Mapping[str, str]) -> ModuleType:
    """Import a tracker's package with its reports on its own use off; what the user has set stays.

    Raises ImportError naming the extra `trackers` where it is not installed.
    """
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    return require(module, "trackers")


def plain(values: Mapping[str, float]) -> dict[str, Any]:
    """Numbers that JSON can hold, with None for what is not finite."""
    return {name: value if abs(value) < float("inf") else None for name, value in values.items()}
