"""Accuracy against fairness: how much of one for how much of the other, on census data.

Whether somebody earns more than 50,000 dollars a year is to be told, and told of women and men equally often.
Both cannot be had. A rule that takes a preference is given several, and the trained models lie along a front,
from which a person may choose.

What to look at: how far the gap closes before the accuracy falls, and whether weights of the losses reach the
same places as a Tchebycheff rule, which has the weighted loss of both objectives fall together.

    EQUIPOISE_DATA=... python examples/accuracy_and_fairness.py
"""

from collections.abc import Callable, Mapping
from statistics import mean

import torch
from _gallery import figure, finish, parser

import equipoise
from equipoise.core.rule import Rule
from equipoise.problems import problem
from equipoise.scalarization import Linear, SmoothTchebycheff

SEEDS, EPOCHS, RATE = 2, 2, 0.1
PREFERENCES = (0.0, 0.2, 0.4, 0.6, 0.8)
"""Of parity; income has the rest."""

RULES: Mapping[str, Callable[[], Rule]] = {"weighted sum": Linear, "smooth Tchebycheff": SmoothTchebycheff}


def train(rule: Rule, parity: float, seed: int) -> tuple[float, float]:
    """Test accuracy, and the gap between the rates of positive decisions, both in %."""
    torch.manual_seed(seed)
    census = problem("adult", split_seed=seed)
    census.prepare()
    model, generator = census.model(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    for _ in range(EPOCHS):
        for batch in census.batches("train", generator):
            losses = dict(census.losses(model, batch))
            preference = {"income": 1 - parity, "parity": parity} if len(losses) == 2 and parity else None
            if preference is None:
                losses = {"income": losses["income"]}
            equipoise.backward(losses, rule, parameters=model, preference=preference)
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        found = census.evaluate(model.eval(), "test")
    return 100 * found["income"], 100 * found["parity"]


def main() -> None:
    out = parser(__doc__).parse_args().out
    drawn, (plot,) = figure(height=4.0)
    first, cheapest = (0.0, 0.0), None
    for number, (name, make) in enumerate(RULES.items()):
        points = []
        for parity in PREFERENCES:
            runs = [train(make(), parity, seed) for seed in range(SEEDS)]
            accuracy, gap = (mean(values) for values in zip(*runs, strict=True))
            points.append((gap, accuracy))
            for one, other in runs:
                plot.plot(other, one, ".", alpha=0.4, color=f"C{number}")
            plot.annotate(f" {parity:g}", points[-1], fontsize=8, color=f"C{number}")
            print(f"{name:20} parity {parity:g}: accuracy {accuracy:.1f} %, gap {gap:.1f} %")
            if not parity:
                first = (accuracy, gap)
            elif accuracy > first[0] - 1 and (cheapest is None or gap < cheapest[2]):
                cheapest = name, parity, gap, accuracy
        plot.plot(*zip(*points, strict=True), "o-", color=f"C{number}", label=name)
    plot.set_xlabel("gap between women and men in the rate of positive decisions, %")
    plot.set_ylabel("test accuracy, %")
    plot.set_title(f"Numbers: preference for parity; mean of {SEEDS} seeds")
    plot.legend()
    said = "no preference closes the gap for one point of accuracy"
    if cheapest is not None:
        name, parity, gap, accuracy = cheapest
        said = (
            f"{first[0] - accuracy:.1f} points of accuracy buy a gap of {gap:.1f} % in place of "
            f"{first[1]:.1f} %, with the {name} at a preference of {parity:g} for parity"
        )
    finish(out, "accuracy_and_fairness", drawn, f"{said}.")


if __name__ == "__main__":
    main()
