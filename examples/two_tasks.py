"""Two tasks, one small network: two handwritten digits lie over each other, and both are to be named.

The loop is the one that everybody has; `equipoise.backward(losses, rule)` stands where the sum of the losses
was differentiated. Beside the rules stand networks that learn one task alone, to say what sharing costs or
brings.

What to look at: a rule that is better than the mean for both tasks lies up and to the right of it, by more
than the spread of the seeds. The rate is chosen for each row on validation images, on a seed of its own.

    python examples/two_tasks.py
"""

from collections.abc import Callable, Mapping
from statistics import mean

import torch
from _gallery import figure, finish, parser, spread

import equipoise
from equipoise.aggregation import MGDA, Mean, NashMTL, PCGrad, UPGrad
from equipoise.core.problem import Split
from equipoise.core.rule import Rule
from equipoise.problems import problem

SEEDS, EPOCHS = 3, 5
RATES = (0.1, 0.3)
TUNING = 100
"""The seed of the runs that choose, which are not reported."""

RULES: Mapping[str, Callable[[], Rule]] = {
    "mean": Mean,
    "UPGrad": UPGrad,
    "PCGrad": PCGrad,
    "MGDA": MGDA,
    "NashMTL": NashMTL,
}
Scores = Mapping[str, float]


def train(rule: Rule, rate: float, seed: int, split: Split, only: str | None = None) -> Scores:
    """The accuracy of each task on a split, in %, after training on both, or on `only`."""
    torch.manual_seed(seed)
    digits = problem("digits-pairs", split_seed=seed)
    digits.prepare()
    model, generator = digits.model(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for _ in range(EPOCHS):
        for batch in digits.batches("train", generator):
            losses = dict(digits.losses(model, batch))
            if only is not None:
                losses = {only: losses[only]}
            equipoise.backward(losses, rule, parameters=model)
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        return {name: 100 * value for name, value in digits.evaluate(model.eval(), split).items()}


def runs(make: Callable[[], Rule], only: str | None = None) -> list[Scores]:
    """The test accuracies of all seeds at the better rate."""

    def judged(rate: float) -> float:
        found = train(make(), rate, TUNING, "validation", only)
        return found[only] if only else mean(found.values())

    rate = max(RATES, key=judged)
    return [train(make(), rate, seed, "test", only) for seed in range(SEEDS)]


def main() -> None:
    out = parser(__doc__).parse_args().out
    found = {name: runs(make) for name, make in RULES.items()}
    left, right = found["mean"][0]
    alone = {task: [run[task] for run in runs(Mean, task)] for task in (left, right)}
    for name, seeds in found.items():
        print(name, *(f"{task} {spread([run[task] for run in seeds])}" for task in seeds[0]), sep="   ")
    print("alone", *(f"{task} {spread(values)}" for task, values in alone.items()), sep="   ")
    drawn, (plot,) = figure(height=4.2)
    for number, (name, seeds) in enumerate(found.items()):
        x, y = ([run[task] for run in seeds] for task in (left, right))
        plot.plot(x, y, ".", alpha=0.4, color=f"C{number}")
        plot.plot(mean(x), mean(y), "o", color=f"C{number}", label=name)
    plot.axvline(mean(alone[left]), color="C7", linewidth=0.8, linestyle=":")
    plot.axhline(mean(alone[right]), color="C7", linewidth=0.8, linestyle=":", label="one task alone")
    plot.set_xlabel(f"test accuracy of {left}, % (each of {SEEDS} seeds, and their mean)")
    plot.set_ylabel(f"test accuracy of {right}, %")
    plot.set_title("Two overlaid digits")
    plot.legend()
    both = {name: [mean(run.values()) for run in seeds] for name, seeds in found.items()}
    best = max(both, key=lambda name: mean(both[name]))
    said = f"{best} names {spread(both[best])} % of the digits, the mean {spread(both['mean'])} %"
    if best == "mean":
        said = f"nothing beats the mean, which names {spread(both['mean'])} % of the digits"
    apart = mean(mean(values) for values in alone.values())
    finish(out, "two_tasks", drawn, f"{said}, networks of one task each {apart:.1f} %.")


if __name__ == "__main__":
    main()
