"""sarcos: seven torques of a robot arm, told from its movement.

Data: SARCOS inverse dynamics (S. Vijayakumar and S. Schaal), `$EQUIPOISE_DATA/multi_target/
sarcos_test.npz` with x (n, 21) and y (n, 7), or OpenML's data set 44976. No licence is stated: a
public benchmark. Rows that repeat the movement of an earlier row are dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.core.card import Card
from equipoise.core.problem import Metric, Split
from equipoise.problems.data import data_of, fetch
from equipoise.problems.inmemory import Examples, InMemory, parts
from equipoise.problems.trunk import Trunk

CARD = Card(
    name="sarcos",
    shape="problem",
    summary="Seven torques of a robot arm regressed on its 21 positions, velocities and accelerations.",
    title="Locally Weighted Projection Regression: An O(n) Algorithm for Incremental Real Time Learning in"
    " High Dimensional Space",
    authors=("Sethu Vijayakumar", "Stefan Schaal"),
    venue="ICML",
    year=2000,
    cost="840 steps of a small network a trial",
    use="to see a rule with more than two objectives, on regression",
    avoid="for figures to set beside a paper's: rows are dealt at random, and neighbours in time are alike",
)
TORQUES = tuple(f"torque{number}" for number in range(1, 8))


@dataclass
class Sarcos(InMemory):
    """Seven squared errors of standardised torques, one shared trunk, seven linear heads.

    Rows are dealt 60 : 20 : 20; inputs and torques are standardised by the training rows. The metric
    is the share of a torque's variance that is explained (R²). A batch is (inputs (n, 21), torques (n, 7)).

    Options: `width` of the trunk's two layers, `download`.
    """

    objectives: ClassVar[tuple[str, ...]] = TORQUES
    metrics: ClassVar[Mapping[str, Metric]] = {name: Metric("R²", "higher") for name in TORQUES}
    epochs: ClassVar[int] = 20
    learning_rates: ClassVar[tuple[float, ...]] = (0.03, 0.1, 0.3)

    batch_size: int = 64
    width: int = 64
    download: bool = False

    def splits(self) -> Mapping[Split, Examples]:
        path = data_of("sarcos", download=self.download)
        return _splits(path, self.split_seed)

    def model(self) -> nn.Module:
        trunk = nn.Sequential(
            nn.Linear(21, self.width), nn.ReLU(), nn.Linear(self.width, self.width), nn.ReLU()
        )
        return Trunk(trunk, TORQUES, width=self.width, outputs=1)

    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        inputs, torques = batch
        columns = zip(model(inputs).items(), torques.unbind(1), strict=True)
        return {name: (output.squeeze(1) - torque).square().mean() for (name, output), torque in columns}

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        inputs, torques = self.splits()[split]
        columns = zip(model(inputs).items(), torques.unbind(1), strict=True)
        return {name: explained(output.squeeze(1), torque) for (name, output), torque in columns}


def explained(predicted: Tensor, actual: Tensor) -> float:  # (n,), (n,) -> float
    """R²: 1 - sum (actual - predicted)² / sum (actual - mean of actual)².

    >>> explained(torch.tensor([2.0, 2.0, 2.0]), torch.tensor([1.0, 2.0, 3.0]))
    0.0
    """
    predicted, actual = predicted.double(), actual.double()
    return float(1 - (actual - predicted).square().sum() / (actual - actual.mean()).square().sum())


@lru_cache(maxsize=2)
def _splits(path: Path | None, seed: int) -> dict[Split, Examples]:
    inputs, torques = _rows(path)
    train, validation, test = parts(len(inputs), (0.6, 0.2), seed)
    inputs, torques = (_standardised(table, train) for table in (inputs, torques))
    indices: dict[Split, Tensor] = {"train": train, "validation": validation, "test": test}
    return {split: (inputs[index], torques[index]) for split, index in indices.items()}


def _rows(path: Path | None) -> tuple[Tensor, Tensor]:
    if path is not None:
        with np.load(path, allow_pickle=False) as file:
            inputs, torques = file["x"], file["y"]
    else:
        found = fetch(44976, target_column=[f"V{number}" for number in range(22, 29)])
        inputs, torques = found.data.astype(np.float32), found.target.astype(np.float32)
    first = np.sort(np.unique(inputs, axis=0, return_index=True)[1])
    return torch.from_numpy(inputs[first]), torch.from_numpy(torques[first])


def _standardised(table: Tensor, rows: Tensor) -> Tensor:  # (n, k), (r,) -> (n, k)
    known = table[rows].double()
    deviation, mean = torch.std_mean(known, dim=0, correction=0)
    return ((table - mean) / deviation).float()
