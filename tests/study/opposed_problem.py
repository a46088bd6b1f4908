"""Three linear tasks on scikit-learn's wine, two of which ask the first layer for opposite things."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.datasets import load_wine
from torch import Tensor, nn

from equipoise import Metric, Problem
from equipoise.core.problem import Split


class Opposed(nn.Module):
    """Two layers; the targets "up" and "down" are of the first, "other" is of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.torn = nn.Linear(6, 1)
        self.calm = nn.Linear(7, 1)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.torn(inputs[:, :6]), self.calm(inputs[:, 6:])


@dataclass
class OpposedTasks(Problem):
    objectives: ClassVar[tuple[str, ...]] = ("up", "down", "other")
    metrics: ClassVar[Mapping[str, Metric]] = {
        name: Metric("squared error", "lower") for name in ("up", "down", "other")
    }
    learning_rates: ClassVar[tuple[float, ...]] = (0.02,)

    def model(self) -> nn.Module:
        return Opposed()

    def batches(self, split: Split, generator: torch.Generator | None) -> Iterator[Tensor]:
        found = load_wine()
        values = torch.tensor((found.data - found.data.mean(0)) / found.data.std(0), dtype=torch.float32)
        part = values[
            {"train": slice(0, None, 2), "validation": slice(1, None, 4), "test": slice(3, None, 4)}[split]
        ]
        order = np.arange(len(part))
        if generator is not None:
            order = torch.randperm(len(part), generator=generator).numpy()
        for start in range(0, len(part), 30):
            yield part[order[start : start + 30]]

    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        torn, calm = model(batch)
        goal = batch[:, :1] + 3.0
        return {
            "up": (torn - goal).square().mean(),
            "down": (torn + goal).square().mean(),
            "other": (calm - batch[:, 6:7]).square().mean()
            + (torn.square().mean() + calm.square().mean()) / 100,
        }

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        if split == "test":
            raise AssertionError("test data were looked at")
        (batch,) = [torch.cat(list(self.batches(split, None)))]
        return {name: float(loss) for name, loss in self.losses(model, batch).items()}
