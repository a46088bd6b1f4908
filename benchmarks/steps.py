"""What one training step of each rule costs beside a step of the plain sum of losses.

Both take turns on one thread, so what slows the machine slows both; the figure is the median of the
ratios of neighbouring steps, with their quartiles. A step is the forward pass, the backward pass, the
optimizer and the rule's update.
"""

import argparse
from collections.abc import Iterator
from statistics import median

import torch
from benchmarks.record import about, record
from benchmarks.sidebyside import Step, in_turns, ratio, shown
from torch import Tensor, nn

import equipoise
from equipoise.study.roster import build, rule_cards

MODELS = ("CNN", "MLP")
OBJECTIVES = (2, 8)
BATCH = 32


class Network(nn.Module):
    """A shared trunk and one linear head for each objective."""

    def __init__(self, kind: str, objectives: int) -> None:
        super().__init__()
        if kind == "CNN":
            self.shape = (3, 16, 16)
            self.trunk = nn.Sequential(
                nn.Conv2d(3, 16, 3, 2, 1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, 2, 1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(512, 128),
            )
        else:
            self.shape = (256,)
            self.trunk = nn.Sequential(
                nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128)
            )
        self.heads = nn.ModuleList(nn.Linear(128, 1) for _ in range(objectives))

    def losses(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """A mean squared error for each objective."""
        features = self.trunk(inputs).relu()
        return {
            f"task {i}": (head(features)[:, 0] - targets[:, i]).square().mean()
            for i, head in enumerate(self.heads)
        }


class Bench:
    """One model and batch, the same for every step that is timed on it."""

    def __init__(self, kind: str, objectives: int) -> None:
        torch.manual_seed(0)
        self.kind, self.objectives = kind, objectives
        self.names = [f"task {i}" for i in range(objectives)]
        self.inputs = torch.randn(BATCH, *Network(kind, objectives).shape)
        self.targets = torch.randn(BATCH, objectives)

    def _start(self, extra: Iterator[nn.Parameter] | tuple[()] = ()) -> tuple[Network, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = Network(self.kind, self.objectives)
        return model, torch.optim.SGD([*model.parameters(), *extra], lr=1e-4)

    def plain(self) -> Step:
        """The step that everything is set beside."""
        model, optimizer = self._start()

        def step() -> None:
            torch.stack([*model.losses(self.inputs, self.targets).values()]).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    def ours(self, name: str) -> Step:
        """A step of a rule of this package."""
        rule = build(name, self.names, seed=0)
        model, optimizer = self._start(rule.parameters())

        def losses() -> dict[str, Tensor]:
            return model.losses(self.inputs, self.targets)

        def step() -> None:
            done = equipoise.backward(losses(), rule)
            optimizer.step()
            optimizer.zero_grad()
            rule.update(done, losses)

        return step


def names() -> list[str]:
    """The rules that are timed."""
    return [card.name for card in rule_cards().values() if card.shape != "wrapper"]


def table(pairs: int) -> dict:
    """A row for each contender, a column for each model and number of objectives."""
    columns = [(kind, m) for kind in MODELS for m in OBJECTIVES]
    cells: dict[str, list[str]] = {name: [] for name in names()}
    bare = []
    for kind, m in columns:
        bench = Bench(kind, m)
        for name, row in cells.items():
            taken = in_turns({"plain": bench.plain(), "step": bench.ours(name)}, pairs)
            row.append(shown(ratio(taken["step"], taken["plain"])))
        bare.append(f"{kind} with {m}: {1e3 * median(taken['plain']):.2f} ms")
    return {
        "title": "The time of a training step of a rule over that of a step of the plain sum of losses",
        "columns": ["rule", *(f"{kind}, m = {m}" for kind, m in columns)],
        "rows": [[name, *found] for name, found in cells.items()],
        "note": f"Median (quartiles) of {pairs} pairs of steps, batch {BATCH}. A step is the forward pass, "
        f"the backward pass, the optimizer and the rule's update. A plain step takes, {', '.join(bare)}: "
        "small models, on which what does not depend on the size of the model weighs most.",
    }


def main() -> None:
    """Measure, record, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=25, help="pairs of steps for each figure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(record("steps", {"about": about(), "tables": [table(options.pairs)]}))


if __name__ == "__main__":
    main()
