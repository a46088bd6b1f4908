"""The published runs of RegMix and of the data mixing laws, and boosted trees to stand beside the laws."""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from equipoise.problems.data import find
from equipoise.scaling import Runs

SETTINGS = (
    {},
    {"max_iter": 300, "learning_rate": 0.05, "max_leaf_nodes": 8, "min_samples_leaf": 5},
    {"max_iter": 500, "learning_rate": 0.05, "max_leaf_nodes": 4, "min_samples_leaf": 2},
)
"""Of scikit-learn's boosted trees: its own, and two for tables of few rows."""
FOLDS, JUDGES = 3, 3


def regmix(part: str) -> Runs:
    """A table of RegMix, "train", "test" or "1B"; every loss has the name of a source.

    The first two have runs of 1 million parameters, the last those of a thousand times that.
    """
    head, size = ("test", "1B") if part == "1B" else (part, "1m")
    sources, p = _read(f"regmix_{head}_mixture_{size}.csv")
    losses, values = _read(f"regmix_{head}_pile_loss_{size}.csv")
    assert (p[:, 0] == values[:, 0]).all()
    columns = {f"p.{s.removeprefix('train_the_pile_')}": p[:, i] for i, s in enumerate(sources) if i}
    return Runs(
        columns
        | {
            f"loss.{s.split('the_pile_')[1].removesuffix('_val_loss')}": values[:, i]
            for i, s in enumerate(losses)
            if i
        }
    )


def two_mixes() -> dict[tuple[str, int], dict[float, float]]:
    """{(domain, step): {share of GitHub: loss}} of 70M models on GitHub and Pile-CC."""
    found: dict[tuple[str, int], dict[float, float]] = defaultdict(dict)
    for line in _path("mixinglaws_2mix_70M.txt").read_text(encoding="utf-8").splitlines():
        model, data, loss = line.split()
        name, step = model.split("/")[-2:]
        found[data.split(".")[-2], int(step)][float(name.split("-")[1])] = float(loss)
    return dict(found)


@dataclass(frozen=True)
class Trees:
    """Boosted trees on the logarithm of each loss, after one of the settings."""

    setting: int

    def fit(self, runs: Runs) -> dict[str, HistGradientBoostingRegressor]:
        return {
            name: HistGradientBoostingRegressor(random_state=0, **SETTINGS[self.setting]).fit(
                runs.features.p, np.log(runs.loss(name))
            )
            for name in runs.objectives
        }


def chosen(runs: Runs) -> Trees:
    """The trees with the least error on held-out thirds of these runs, on the first three losses."""
    order = np.random.default_rng(0).permutation(len(runs)) % FOLDS

    def error(trees: Trees) -> float:
        return float(
            np.mean(
                [
                    np.abs(np.exp(tree.predict(held.features.p)) / held.loss(name) - 1).mean()
                    for fold in range(FOLDS)
                    for held in [runs.take(order == fold)]
                    for name, tree in trees.fit(only(runs.take(order != fold), JUDGES)).items()
                ]
            )
        )

    return min(map(Trees, range(len(SETTINGS))), key=error)


def only(runs: Runs, count: int) -> Runs:
    """The same runs with their first losses alone."""
    found = runs.take(np.arange(len(runs)))
    found.objectives, found.losses = found.objectives[:count], found.losses[:, :count]
    return found


def _path(name: str) -> Path:
    path = find("scaling_runs", name, download=None)
    assert path is not None
    return path


def _read(name: str) -> tuple[list[str], np.ndarray]:
    with _path(name).open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    return header, np.array(lines, dtype=float)
