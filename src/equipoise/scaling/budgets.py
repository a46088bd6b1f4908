"""spend: how much of each kind of data to buy with a budget."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from equipoise.core.checks import check_count, check_positive
from equipoise.core.errors import unknown
from equipoise.scaling.fittedlaw import FittedLaw
from equipoise.scaling.mixturetask import Objective, Task
from equipoise.scaling.optimum import Mixture, recommended, weights_of


@dataclass(frozen=True, slots=True)
class Spending:
    """What to buy.

    mixture: its ratios are shares of examples, its gains and noise as of `optimum`. amounts: examples of each
    kind. money: what each takes of the budget. alone: by how much the value is below that of all of the
    budget spent on one kind; infinite where the law has no finite loss without the others.
    """

    mixture: Mixture
    amounts: dict[str, float]
    money: dict[str, float]
    alone: dict[str, float]

    @property
    def best_alone(self) -> str:
        """The kind that is worth most by itself."""
        return min(self.alone, key=self.alone.__getitem__)

    @property
    def claimed(self) -> bool:
        """Whether to mix is better than the best kind by itself by more than two standard deviations of a
        difference of runs; never without repeats."""
        noise = self.mixture.noise
        return noise is not None and self.alone[self.best_alone] > 2 * 2**0.5 * noise

    def sentence(self) -> str:
        """What to do."""
        gain, best, noise = self.alone[self.best_alone], self.best_alone, self.mixture.noise
        if noise is None:
            return self.mixture.sentence()
        if self.claimed:
            return f"Mix: {gain:.4f} below {best} alone, where a seed moves it by {noise:.4f}."
        return f"Buy {best} alone: a mixture would gain {gain:.4f}, and a seed moves it by {noise:.4f}."

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        more = {"claimed": self.claimed, "sentence": self.sentence()}
        return {**asdict(self), "mixture": self.mixture.plain(), **more}

    def __str__(self) -> str:
        lines = [
            f"  {name:20} {self.amounts[name]:12.4g} examples for {self.money[name]:.4g}"
            for name in self.amounts
        ]
        lines += [f"gain over {name} alone {gain:.4f}" for name, gain in self.alone.items()]
        return "\n".join([*lines, self.sentence()])


def spend(
    law: FittedLaw,
    costs: Mapping[str, float],
    budget: float,
    weights: Mapping[str, float] | None = None,
    *,
    N: float | None = None,
    minimise: Objective = "sum",
    refits: int = 40,
) -> Spending:
    """How much of each kind of data to buy, such as demonstrations and preferences, or cheap and good labels.

    law: fitted to runs whose D counts examples and whose ratios p are shares of them. costs: {source: price
    of one example}. budget: in the same money; D is what it buys of a mixture. The rest as for `optimum`.

    Raises ValueError for a price that is missing, unknown or not above 0, runs without D, and as `optimum`.

    For the question see Raghavendra et al. 2025 (Balancing the Budget, arXiv 2502.11284) and Mallen and
    Belrose 2024 (Balancing Label Quantity and Quality, arXiv 2410.13215); the laws are this room's.
    """
    names = law.runs.sources
    if not names or law.runs.features.D is None:
        raise ValueError("to spend a budget takes runs with a mixture p.<source> and examples D")
    for name in costs:
        if name not in names:
            raise ValueError(unknown("source", name, names))
    absent = [name for name in names if name not in costs]
    if absent:
        raise ValueError(f"costs lack {', '.join(map(repr, absent))}")
    check_positive(budget=budget, **{f"costs[{name}]": cost for name, cost in costs.items()})
    check_count(0, refits=refits)
    prices = np.array([costs[name] for name in names], dtype=float)
    task = Task(law, weights_of(law, weights), N, None, minimise, costs=prices, budget=budget)
    mixture = recommended(task, np.ones(len(names)), refits)
    p = np.array([mixture.p[name] for name in names])
    amounts = p * float(task.bought(p))
    with np.errstate(all="ignore"):
        alone = np.nan_to_num(task.values(np.eye(len(names))) - mixture.value, nan=np.inf)
    return Spending(
        mixture,
        dict(zip(names, amounts.tolist(), strict=True)),
        dict(zip(names, (amounts * prices).tolist(), strict=True)),
        dict(zip(names, alone.tolist(), strict=True)),
    )
