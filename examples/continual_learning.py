"""Continual learning: five tasks one after the other, and what is left of the first ones.

Digits 0 and 1 first, then 2 and 3, and so on, through one head. A memory of a few images of each past task
gives a loss for each; what rule combines them with the task at hand is what is compared.

What to look at: not only the end. Right after a switch the old tasks may fall and come back, which an
evaluation at the end of each task never sees; `equipoise.Evaluations` keeps all of them.

    python examples/continual_learning.py
"""

from collections.abc import Callable, Mapping
from statistics import mean

import torch
from _gallery import figure, finish, parser, spread
from torch import Tensor, nn
from torch.nn import functional

import equipoise
from equipoise.aggregation import AGEM, GEM, Mean, UPGrad
from equipoise.core.rule import Rule
from equipoise.problems.data import digits

SEEDS, STEPS, KEPT, BATCH, RATE = 3, 60, 10, 16, 0.03
TASKS = tuple(f"{a}, {a + 1}" for a in range(0, 10, 2))
RULES: Mapping[str, Callable[[], Rule] | None] = {
    "no memory": None,
    "AGEM": AGEM,
    "GEM": GEM,
    "mean": Mean,
    "UPGrad": UPGrad,
}


def dealt(seed: int) -> dict[str, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Images and digits of each task, to learn from and to judge by."""
    images, labels = digits()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    x, y = torch.from_numpy(images).float()[order] / 16, torch.from_numpy(labels)[order]
    found = {}
    for place, name in enumerate(TASKS):
        rows = (y // 2 == place).nonzero().flatten()
        train, test = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        found[name] = x[train], y[train], x[test], y[test]
    return found


def train(make: Callable[[], Rule] | None, seed: int) -> equipoise.Evaluations:
    """Learn the tasks one after the other; every task so far is judged at every second step."""
    torch.manual_seed(seed)
    data, generator = dealt(seed), torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    stream = equipoise.Evaluations([(name, STEPS * (i + 1)) for i, name in enumerate(TASKS)])
    memory: dict[str, tuple[Tensor, Tensor]] = {}
    for phase, name in enumerate(TASKS):
        x, y, _, _ = data[name]
        rule = None if make is None else make()
        for step in range(STEPS):
            index = torch.randint(len(x), (BATCH,), generator=generator)
            losses = {name: functional.cross_entropy(model(x[index]), y[index])}
            if rule is not None:
                losses |= {old: functional.cross_entropy(model(a), b) for old, (a, b) in memory.items()}
            equipoise.backward(losses, rule or Mean(), parameters=model)
            optimizer.step()
            optimizer.zero_grad()
            if step % 2:
                with torch.no_grad():
                    judged = {
                        seen: float((model(data[seen][2]).argmax(1) == data[seen][3]).double().mean())
                        for seen in TASKS[: phase + 1]
                    }
                stream.add(STEPS * phase + step + 1, judged)
        chosen = torch.randperm(len(x), generator=generator)[:KEPT]
        memory[name] = x[chosen], y[chosen]
    return stream


def main() -> None:
    out = parser(__doc__).parse_args().out
    found = {name: [train(make, seed) for seed in range(SEEDS)] for name, make in RULES.items()}
    ends = {name: [100 * run.acc() for run in runs] for name, runs in found.items()}
    lows = {name: [100 * run.min_acc() for run in runs] for name, runs in found.items()}
    for name in RULES:
        print(f"{name:10} at the end {spread(ends[name])} %, lowest of past tasks {spread(lows[name])} %")
    drawn, axes = figure(2, height=3.6, width=9, sharey=True)
    best = max(ends, key=lambda name: mean(ends[name]))
    for plot, name in zip(axes, ("no memory", best), strict=True):
        for number, task in enumerate(TASKS):
            points = found[name][0].curve(task)
            plot.plot(*zip(*points, strict=True), color=f"C{number}", label=task, linewidth=1.2)
        for switch in range(STEPS, STEPS * len(TASKS), STEPS):
            plot.axvline(switch, color="C7", linewidth=0.5, linestyle=":")
        plot.set_title(f"{name} (first seed)")
        plot.set_xlabel("step")
    axes[0].set_ylabel("accuracy of each task")
    axes[1].legend(title="digits", fontsize=8, loc="lower left")
    finish(
        out,
        "continual_learning",
        drawn,
        f"With {KEPT} images kept of each task {best} ends at {spread(ends[best])} %, without any at "
        f"{spread(ends['no memory'])} %; on the way its past tasks fall to {spread(lows[best])} %, which "
        "the end does not show.",
    )


if __name__ == "__main__":
    main()
