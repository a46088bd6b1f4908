"""Problems of a study by name; where fronts are traced, analytic landscapes among them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from equipoise.core.card import cards
from equipoise.core.problem import Metric, Problem, Split
from equipoise.pareto.landscape import Landscape
from equipoise.pareto.landscapes.names import KINDS, named
from equipoise.pareto.training import Training
from equipoise.problems.registry import problem

STEPS = 300
"""Steps that count as one training of an analytic landscape."""


@dataclass
class AnalyticProblem(Problem):
    """An analytic landscape in the place of a problem; it is only traced, never trained."""

    landscape_name: str = "zdt1"

    epochs: ClassVar[int] = 1
    learning_rates: ClassVar[tuple[float, ...]] = (0.003, 0.01, 0.03, 0.1)

    def __post_init__(self) -> None:
        self.landscape = named(self.landscape_name)
        self.objectives = self.landscape.names  # type: ignore[misc]
        self.metrics = {name: Metric("value", "lower") for name in self.objectives}  # type: ignore[misc]

    def model(self) -> nn.Module:
        return self.landscape.model(0)

    def batches(self, split: Split, generator: torch.Generator | None) -> Iterable[None]:
        return [None] * (STEPS if split == "train" else 1)

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        return self.landscape.losses(model)

    def evaluate(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        return dict(zip(self.objectives, self.landscape.evaluate(model).tolist(), strict=True))


def find(name: str, options: Mapping[str, Any], traced: bool) -> Problem:
    """A problem by name or file; where it is `traced`, an analytic landscape by name too.

    Raises ValueError as `problem` does, and for options of an analytic landscape, which takes none.
    """
    known = name in cards("problems") or name.endswith(".py")
    if not known and name.lower() in KINDS:
        if not traced:
            raise ValueError(f"{name} is an analytic landscape: trace it by equipoise run {name} --front all")
        if set(options) - {"landscape_name"}:
            raise ValueError(f"{name} has no options, but {', '.join(options)} were given")
        return AnalyticProblem(name.lower())
    return problem(name, **options)


def landscape(found: Problem, split: Split) -> Landscape:
    """The losses of a problem to trace, evaluated on a split."""
    return found.landscape if isinstance(found, AnalyticProblem) else Training(found, split=split)
