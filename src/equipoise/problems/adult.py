"""adult: who earns more than 50,000 dollars a year, told without favouring one sex.

Data: Adult (B. Becker and R. Kohavi, UCI Machine Learning Repository, 1996), `$EQUIPOISE_DATA/fairness/
adult.csv.gz` with a header and a last column `split` (train or test), or OpenML's data set 1590.
Licence: CC BY 4.0.
"""

import csv
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from equipoise.core.card import Card
from equipoise.core.problem import Metric, Split
from equipoise.problems.data import data_of, fetch
from equipoise.problems.inmemory import Examples, InMemory, parts

CARD = Card(
    name="adult",
    shape="problem",
    summary="Income above 50,000 dollars a year: be right, and say it of both sexes equally often.",
    title="Adult",
    authors=("Barry Becker", "Ronny Kohavi"),
    venue="UCI Machine Learning Repository",
    year=1996,
    doi="10.24432/C5XW20",
    cost="510 steps of a three-layer network a trial",
    use="to see accuracy traded for fairness: two objectives that cannot both be had",
    avoid="where gains are read relative to parity trained alone: its gap is zero",
)

NUMERIC = ("age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week")
CATEGORICAL = (
    "workclass",
    "education",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "native_country",
)
Table = dict[str, np.ndarray]


@dataclass
class Adult(InMemory):
    """Income (log loss) against parity (the gap between the sexes in the rate of positive decisions).

    The parity loss is |mean p over women - mean p over men| with p the model's probability; a batch
    without women or without men leaves it out. It is zero where all get one decision: rules that follow
    the logarithms of losses (GLS, FAMO, IMTL-L) may end there. Metrics, both of the decision p > 1/2:
    accuracy, and the demographic parity difference, |rate over women - rate over men|.

    All categories are encoded, an unknown value as one of its own; categories, means and deviations
    come from the training rows. Validation rows are a fifth of the original training rows, test rows the
    original ones. A batch is (features (n, k), income (n,) 0 or 1, group (n,) 0 for women and 1 for men).

    Options: `width` of the two hidden layers, `download`.
    """

    objectives: ClassVar[tuple[str, ...]] = ("income", "parity")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "income": Metric("accuracy", "higher"),
        "parity": Metric("demographic parity difference", "lower"),
    }
    epochs: ClassVar[int] = 5
    learning_rates: ClassVar[tuple[float, ...]] = (0.03, 0.1, 0.3)

    batch_size: int = 256
    width: int = 64
    download: bool = False

    def splits(self) -> Mapping[Split, Examples]:
        return _splits(data_of("adult", download=self.download), self.split_seed)

    def model(self) -> nn.Module:
        features = self.splits()["train"][0].shape[1]
        return nn.Sequential(
            nn.Linear(features, self.width),
            nn.ReLU(),
            nn.Linear(self.width, self.width),
            nn.ReLU(),
            nn.Linear(self.width, 1),
            nn.Flatten(0),
        )

    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        features, income, group = batch
        logits = model(features)
        found = {"income": functional.binary_cross_entropy_with_logits(logits, income)}
        gap = rate_gap(logits.sigmoid(), group)
        return found if gap is None else {**found, "parity": gap}

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        features, income, group = self.splits()[split]
        decisions = (model(features) > 0).double()
        gap = rate_gap(decisions, group)
        return {
            "income": float((decisions == income).double().mean()),
            "parity": float("nan") if gap is None else float(gap),
        }


def rate_gap(rates: Tensor, group: Tensor) -> Tensor | None:  # (n,), (n,) -> ()
    """|mean of rates over group 0 - mean over group 1|, unsigned; None where a group is absent.

    >>> rate_gap(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0, 0, 1])).item()
    0.5
    """
    first, second = rates[group == 0], rates[group == 1]
    return (first.mean() - second.mean()).abs() if len(first) and len(second) else None


@lru_cache(maxsize=2)
def _splits(path: Path | None, seed: int) -> dict[Split, Examples]:
    table = _downloaded() if path is None else _read(path)
    original = np.flatnonzero(table["split"] == "train")
    validation, train = (original[part.numpy()] for part in parts(len(original), (0.2,), seed))
    rows: dict[Split, np.ndarray] = {
        "train": train,
        "validation": validation,
        "test": np.flatnonzero(table["split"] == "test"),
    }
    features = _features(table, train)
    income = torch.from_numpy(np.char.startswith(table["income"], ">50K")).float()
    group = torch.from_numpy(table["sex"] == "Male").long()
    return {split: (features[index], income[index], group[index]) for split, index in rows.items()}


def _features(table: Table, train: np.ndarray) -> Tensor:  # rows of the table -> (n, k)
    # Most people have no capital gain and a few have 99,999: its logarithm keeps those few in range.
    numbers = np.stack([table[name].astype(np.float64) for name in NUMERIC], axis=1)
    for name in ("capital_gain", "capital_loss"):
        numbers[:, NUMERIC.index(name)] = np.log1p(numbers[:, NUMERIC.index(name)])
    words = np.stack([table[name] for name in CATEGORICAL], axis=1)
    scaler = StandardScaler().fit(numbers[train])
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(words[train])
    columns = [np.asarray(scaler.transform(numbers)), np.asarray(encoder.transform(words))]
    return torch.from_numpy(np.concatenate(columns, axis=1)).float()


def _read(path: Path) -> Table:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return {name: np.array(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)}


def _downloaded() -> Table:
    found = fetch(1590)
    table = {}
    for name, values in zip(found.feature_names, found.data.T, strict=True):
        words = found.categories.get(name)
        table[name.replace("-", "_")] = values if words is None else _decoded(values, words)
    # OpenML joins the two original files; the first row, by its weight, tells which of them leads.
    row = np.arange(len(found.target))
    is_train = row < 32_561 if table["fnlwgt"][0] == 77_516 else row >= 16_281
    return {**table, "income": found.target.astype(str), "split": np.where(is_train, "train", "test")}


def _decoded(codes: np.ndarray, words: list[str]) -> np.ndarray:
    unknown = np.isnan(codes)
    return np.where(unknown, "", np.array(words)[np.where(unknown, 0, codes).astype(int)])
