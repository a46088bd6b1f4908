"""Knapsack: a budget of tries where they tell most."""

from collections.abc import Callable, Mapping, Sequence
from heapq import heapify, heapreplace
from typing import Any

import numpy as np

from equipoise.core.card import Card
from equipoise.core.checks import check_count, check_share
from equipoise.scaling.runs import Array
from equipoise.scaling.schedule import Schedule

CARD = Card(
    name="Knapsack",
    shape="schedule",
    summary="Deals a budget of tries to prompts by what a further one is worth.",
    formula="max sum_i (1 - p_i^n_i - (1 - p_i)^n_i) p_i (1 - p_i)^2, sum n_i = B",
    title="Knapsack RL: Unlocking Exploration of LLMs via Optimizing Budget Allocation",
    authors=(
        "Ziniu Li",
        "Congliang Chen",
        "Tianyun Yang",
        "Tian Ding",
        "Ruoyu Sun",
        "Ge Zhang",
        "Wenhao Huang",
        "Zhi-Quan Luo",
    ),
    venue="arXiv",
    year=2025,
    arxiv="2509.25849",
    single="all of the budget",
    cost="B log m: the value has falling gains, so that dealing one by one is exact",
    use="groups of tries whose gradient is zero when all succeed or all fail",
    avoid="success rates that nobody has seen: they begin at 1/2",
    status="main",
    evidence="knapsack",
)

Value = Callable[[int, float], float]


def told(n: int, p: float) -> float:
    """What n tries at success rate p are worth: the chance of unlike outcomes, times p (1 - p)^2.

    >>> told(1, 0.5), told(2, 0.5)
    (0.0, 0.0625)
    """
    return (1 - p**n - (1 - p) ** n) * p * (1 - p) ** 2


def knapsack(
    rates: Sequence[float] | Array,
    budget: int,
    *,
    least: int = 2,
    most: int | None = None,
    value: Value = told,
) -> Array:  # (m,) -> (m,)
    """How many of `budget` tries each prompt gets so that the sum of values is the largest, exactly.

    rates: chances of success in [0, 1]. least, most: tries of one prompt. value: of n tries at a rate; its
    gains must not rise with n, as those of `told` do not, or the answer is not the best. Tries that gain
    nothing are dealt evenly.

    Each next try goes where it gains most; for falling gains no other deal has a larger sum. Raises
    ValueError for rates outside [0, 1], and a budget that is too small for `least` or too large for `most`.

    Source: Li et al. 2025; they solve it by dynamic programming in m B^2.

    >>> knapsack([0.05, 0.3, 0.9], 24).tolist()
    [12, 10, 2]
    """
    chances = [float(rate) for rate in rates]
    for place, rate in enumerate(chances):
        if not 0 <= rate <= 1:
            raise ValueError(f"rate {place} is {rate}; it is in [0, 1]")
    check_count(0, least=least, budget=budget)
    check_count(max(least, 1), most=most)
    top = budget if most is None else most
    if not len(chances) * least <= budget <= len(chances) * max(top, least):
        raise ValueError(
            f"a budget of {budget} for {len(chances)} prompts of {least} to {top} tries each; give "
            f"{len(chances) * least} to {len(chances) * top}"
        )
    counts = np.full(len(chances), least)
    gains = [
        (value(least, rate) - value(least + 1, rate) if least < top else np.inf, least, place)
        for place, rate in enumerate(chances)
    ]
    heapify(gains)
    for _ in range(budget - int(counts.sum())):
        place = gains[0][2]
        counts[place] += 1
        n, rate = int(counts[place]), chances[place]
        heapreplace(gains, (value(n, rate) - value(n + 1, rate) if n < top else np.inf, n, place))
    return counts


def with_spare(
    rates: Array, budget: int, *, least: int = 2, most: int | None = None, sure: float = 0.9
) -> Array:  # (m,) -> (m,)
    """The deal under rates that were seen, of which 0 and 1 may be chance.

    Prompts with a rate between them have a claim on the tries that bring unlike outcomes with probability
    `sure`; what the budget has beyond goes evenly to those at 0, or if there are none to those at 1, and
    `knapsack` deals the rest. Source: the authors' code.

    >>> with_spare(np.array([0.5, 0.5, 0.0, 1.0]), 40).tolist()
    [4, 4, 30, 2]
    """
    mixed = (rates > 0) & (rates < 1)
    counts = np.full(len(rates), least)
    needs = np.ceil(np.log(1 - sure) / np.log(np.maximum(rates, 1 - rates)[mixed]))
    spare = max(budget - int(counts.sum() + np.maximum(needs - least, 0).sum()), 0)
    takers = np.flatnonzero(rates == 0) if (rates == 0).any() else np.flatnonzero(rates == 1)
    if not len(takers):
        return knapsack(rates, budget, least=least, most=most)
    counts[takers] += spare // len(takers)
    counts[takers[: spare % len(takers)]] += 1
    if most is not None:
        counts = np.minimum(counts, most)
    if not mixed.any():
        return counts if counts.sum() == budget else knapsack(rates, budget, least=least, most=most)
    counts[mixed] = knapsack(rates[mixed], budget - int(counts[~mixed].sum()), least=least, most=most)
    return counts


class Knapsack(Schedule):
    """The deal as a schedule over prompts, or groups of them: ratios n_i / B under rates as they are seen.

    budget, least, most: of one step, as in `knapsack`. memory: the share of a rate that is kept when a new
    one is seen. Rates begin at 1/2. sure: as in `with_spare`; None deals by `knapsack` alone, which starves
    prompts at which nothing has succeeded yet. `deal` has the counts of the next step.
    """

    def __init__(
        self,
        names,
        *,
        budget: int,
        least: int = 2,
        most: int | None = None,
        memory: float = 0.0,
        sure: float | None = 0.9,
    ) -> None:
        super().__init__(names)
        check_share(memory=memory)
        self.budget, self.least, self.most, self.memory = budget, least, most, memory
        self.rates = np.full(len(self.names), 0.5)
        self.sure = sure
        if sure is not None and not 0 < sure < 1:
            raise ValueError(f"sure is {sure}; it is between 0 and 1")
        self._counts = self._dealt()

    def _dealt(self) -> Array:  # -> (m,)
        if self.sure is None:
            return knapsack(self.rates, self.budget, least=self.least, most=self.most)
        return with_spare(self.rates, self.budget, least=self.least, most=self.most, sure=self.sure)

    @property
    def deal(self) -> dict[str, int]:
        """How many tries each gets at the next step."""
        return dict(zip(self.names, self._counts.tolist(), strict=True))

    def ratios(self, step: int, steps: int | None = None) -> Array:
        return self._counts / self._counts.sum()

    def observe(self, rates: Mapping[str, float]) -> None:
        """Note the share of tries that succeeded, by name; raises ValueError for one outside [0, 1]."""
        for name, rate in rates.items():
            if not 0 <= rate <= 1:
                raise ValueError(f"the rate of {name!r} is {rate}; it is in [0, 1]")
            place = self._place(name)
            self.rates[place] = self.memory * self.rates[place] + (1 - self.memory) * rate
        self._counts = self._dealt()

    def state_dict(self) -> dict[str, Any]:
        return {"rates": self.rates.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.observe(dict(zip(self.names, state["rates"], strict=True)))
        self.rates = np.array(state["rates"])
        self._counts = self._dealt()
