"""Seven torques of a robot arm from its movement: which objectives conflict, and where in the network.

`equipoise.backward` takes the seven losses as they are; an observer, told of every step, keeps the cosines
of the gradients, all of them and those of each layer. Nothing else of the loop changes.

What to look at: conflict is not everywhere. A pair of torques may agree on the first layer and part on the
second, and a rule can only help where there is something to settle.

    EQUIPOISE_DATA=... python examples/seven_torques.py
"""

from collections import defaultdict
from statistics import mean

import numpy as np
import torch
from _gallery import figure, finish, parser, spread

import equipoise
from equipoise.aggregation import Mean, UPGrad
from equipoise.core.problem import Split
from equipoise.core.rule import Rule
from equipoise.problems import problem

SEEDS, EPOCHS = 3, 8
RATES = (0.03, 0.1, 0.3)
TUNING = 100
"""The seed of the runs that choose, which are not reported."""


class Cosines(equipoise.Observer):
    """Keeps the mean cosine of every pair, over the whole trunk, and the share of conflicts in each layer."""

    layers = True

    def __init__(self) -> None:
        self.count = 0
        self.total = np.zeros((7, 7))
        self.shares: dict[str, list[float]] = defaultdict(list)

    def collected(self, step: equipoise.Collection) -> None:
        self.count += 1
        if step.gramian is not None:
            self.total += cosines(step.gramian)
        for layer, gramian in step.layers.items():
            pairs = cosines(gramian)[np.triu_indices(len(gramian), 1)]
            self.shares[layer].append(float((pairs < 0).mean()))


def cosines(gramian: torch.Tensor) -> np.ndarray:  # (m, m) -> (m, m)
    """Of the angles between directions, from their inner products."""
    lengths = gramian.diagonal().clamp(min=1e-30).sqrt()
    return (gramian / lengths / lengths[:, None]).numpy()


def train(rule: Rule, rate: float, seed: int, split: Split, watch: Cosines | None = None) -> dict[str, float]:
    """The share of each torque's variance that is explained on a split, in %."""
    torch.manual_seed(seed)
    arm = problem("sarcos", split_seed=seed)
    arm.prepare()
    model, generator = arm.model(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    observers = [] if watch is None else [watch]
    for _ in range(EPOCHS):
        for batch in arm.batches("train", generator):
            equipoise.backward(arm.losses(model, batch), rule, parameters=model, observers=observers)
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        return {name: 100 * value for name, value in arm.evaluate(model.eval(), split).items()}


def main() -> None:
    out = parser(__doc__).parse_args().out
    found, watch = {}, Cosines()
    for name, rule in {"mean": Mean, "UPGrad": UPGrad}.items():
        rate = max(RATES, key=lambda r, rule=rule: mean(train(rule(), r, TUNING, "validation").values()))
        found[name] = [
            train(rule(), rate, seed, "test", watch if name == "UPGrad" and seed == 0 else None)
            for seed in range(SEEDS)
        ]
        each = [mean(run.values()) for run in found[name]]
        worst = [min(run.values()) for run in found[name]]
        print(f"{name:8} rate {rate}: {spread(each)} % of the variance, the worst torque {spread(worst)} %")
    names = list(found["mean"][0])
    table = watch.total / watch.count
    drawn, (left, right) = figure(2, height=3.6, width=8.5)
    left.imshow(table, cmap="RdBu", vmin=-1, vmax=1)
    for i in range(7):
        for j in range(7):
            left.text(j, i, f"{table[i, j]:+.1f}" if i != j else "", ha="center", va="center", fontsize=8)
    left.set_xticks(range(7), [str(i + 1) for i in range(7)])
    left.set_yticks(range(7), [str(i + 1) for i in range(7)])
    left.set_title("Mean cosine of two torques' gradients")
    shares = {layer: mean(values) for layer, values in watch.shares.items()}
    right.barh(list(shares), [100 * share for share in shares.values()], height=0.5)
    right.invert_yaxis()
    right.set_xlabel("pairs in conflict, % of all steps")
    right.set_title("Where they conflict")
    pairs = table[np.triu_indices(7, 1)]
    i, j = np.triu_indices(7, 1)
    least = int(pairs.argmin())
    plain, other = (mean(mean(run.values()) for run in found[name]) for name in ("mean", "UPGrad"))
    finish(
        out,
        "seven_torques",
        drawn,
        f"{100 * mean(shares.values()):.0f} % of the pairs conflict in a layer at a step, none for long "
        f"({names[i[least]]} and {names[j[least]]} most, mean cosine {pairs[least]:+.2f}); UPGrad explains "
        f"{other:.1f} % of the variance, the mean {plain:.1f} %, over {SEEDS} seeds.",
    )


if __name__ == "__main__":
    main()
