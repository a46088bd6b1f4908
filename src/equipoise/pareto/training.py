"""A training problem as a landscape: its batches, and its losses on a whole split."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.core.bundle import Bundle
from equipoise.core.collect import gradients
from equipoise.core.problem import Problem, Split
from equipoise.pareto.landscape import Landscape

BATCHES = 8
"""Batches over which the gradients of `bundle` are averaged."""


class Training(Landscape):
    """The losses of a problem: trained on its batches, compared by their means over a split.

    problem: prepared. split: what solutions are evaluated on, "test" by default.
    Raises ValueError where a batch lacks an objective: a front needs all of them at every step.
    """

    noisy = True

    def __init__(self, problem: Problem, *, split: Split = "test") -> None:
        self.problem = problem
        self.split: Split = split
        self.names = tuple(problem.objectives)
        self._held: Any = None
        self.seed(0)

    def seed(self, seed: int) -> None:
        self._order = torch.Generator().manual_seed(seed)
        self._batches = self._endless()

    def model(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.problem.model()

    def losses(self, model: nn.Module) -> Mapping[str, Tensor]:
        batch = next(self._batches) if self._held is None else self._held
        return self._losses(model, batch)

    @contextmanager
    def one_batch(self) -> Iterator[None]:
        self._held = next(self._batches)
        try:
            yield
        finally:
            self._held = None

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> Tensor:  # -> (m,)
        was = model.training
        model.eval()
        total, count = torch.zeros(len(self.names), dtype=torch.float64), 0
        for batch in self.problem.batches(self.split, None):
            found = self._losses(model, batch)
            size = _size(batch)
            total += size * torch.stack([found[name].detach().double().cpu() for name in self.names])
            count += size
        model.train(was)
        return total / count

    def optimizer(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        return self.problem.optimizer(parameters, learning_rate)

    def bundle(self, model: nn.Module) -> Bundle:
        total: dict[str, Tensor] = {}
        taken = 0
        for batch, _ in zip(self.problem.batches("train", None), range(BATCHES), strict=False):
            found = gradients(self._losses(model, batch), model)
            total = {k: rows + total[k] if total else rows.clone() for k, rows in found.items()}
            taken += 1
        return Bundle(self.names, {k: rows / taken for k, rows in total.items()})

    def _endless(self) -> Iterator[Any]:
        while True:
            yield from self.problem.batches("train", self._order)

    def _losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        found = self.problem.losses(model, batch)
        if lacking := [name for name in self.names if found.get(name) is None]:
            raise ValueError(f"a batch has no loss of {', '.join(lacking)}; a front needs all at every step")
        return {name: found[name] for name in self.names}


def _size(batch: Any) -> int:
    """The number of examples in a batch: the length of its first tensor, 1 where it has none."""
    if isinstance(batch, Tensor):
        return len(batch)
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    return next((len(part) for part in parts if isinstance(part, Tensor) and part.dim()), 1)
