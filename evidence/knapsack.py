"""Knapsack RL: a budget of tries dealt to the prompts where they teach most.

Li, Chen, Yang, Ding, Sun, Zhang, Huang and Luo 2025, arXiv 2509.25849. A toy of it: 64 prompts of ten answers
each, one of which is right, and a table of logits as the policy. At the start the chance of the right answer
is between .005 and .9, evenly in its logarithm; the seed draws them. In each of 100 steps 512 tries are
dealt; the policy of a prompt moves along the gradient of its group, rewards less their mean over their
deviation, so that a group where all or none are right does not move. `Knapsack` deals by rates that it sees
in the tries, .8 of what it knew kept, without `sure`; eight for each prompt are dealt beside it, and a deal
by the true rates, which nobody has. Claims:

(a) Over the run the share of groups with a gradient is larger by a fifth or more than that of equal groups.
(b) At the end the mean chance of the right answer is higher.
(c) `knapsack` gives a deal as good as that of dynamic programming.

Each way's rate is of the same three, by the chance at the end on a seed that is not reported. The other
settings were chosen before a look. The paper trains language models, where prompts share their parameters.

Two things were added after the look, to see why, and no claim is about them. One is the authors' further
rule, `sure`, which is the default of the class since: rates are those of the last tries alone, and what is
left of the budget, once every prompt with a rate between 0 and 1 has tries for unlike outcomes nine times in
ten, goes to prompts where none was right. The other is how many groups are expected to have a gradient where
rates are known, under three deals.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean

import numpy as np
from _experiment import Claim, Table, Verdict, interval, run, spread, verdict

from equipoise.scaling import Knapsack, knapsack
from equipoise.scaling.knapsack import told
from equipoise.scaling.runs import Array

RECORDED: dict[str, Verdict] = {"a": "fails", "b": "fails", "c": "holds"}

PROMPTS, ANSWERS, GROUP = 64, 10, 8
BUDGET = PROMPTS * GROUP
MEMORY, LEAST = 0.8, 2
RATES = (0.1, 0.3, 1.0)
TUNING = 1000
SURE = 0.9
EQUAL, SEEN, KNOWN, REST = (
    "eight each",
    "Knapsack, rates seen",
    "Knapsack, rates known",
    "the rest to rates of 0",
)
WAYS = (EQUAL, SEEN, KNOWN, REST)


@dataclass(frozen=True)
class Learned:
    """Shares of groups with a gradient, step by step; the chances at the end; the largest group."""

    shares: tuple[float, ...]
    end: float
    largest: int


def learn(way: str, rate: float, seed: int, steps: int) -> Learned:
    """Train all prompts; the right answer is the first."""
    draws = np.random.default_rng(seed)
    chances = np.exp(draws.uniform(np.log(0.005), np.log(0.9), PROMPTS))
    logits = np.zeros((PROMPTS, ANSWERS))
    logits[:, 0] = np.log(chances / (1 - chances) * (ANSWERS - 1))
    names = [str(i) for i in range(PROMPTS)]
    memory, sure = (MEMORY if way == SEEN else 0.0), (SURE if way == REST else None)
    schedule = Knapsack(names, budget=BUDGET, least=LEAST, memory=memory, sure=sure)
    shares, largest, right = [], 0, np.full(PROMPTS, 0.5)
    for _ in range(steps):
        policy = softmax(logits)
        if way == KNOWN:
            schedule.observe(dict(zip(names, policy[:, 0].tolist(), strict=True)))
        dealt = np.full(PROMPTS, GROUP) if way == EQUAL else np.array(list(schedule.deal.values()))
        tries = draws.multinomial(dealt, policy)  # (prompts, answers)
        right = tries[:, 0] / dealt
        logits += rate * gradient(tries / dealt[:, None], right, policy)
        if way in (SEEN, REST):
            schedule.observe(dict(zip(names, right.tolist(), strict=True)))
        shares.append(float(((right > 0) & (right < 1)).mean()))
        largest = max(largest, int(dealt.max()))
    return Learned(tuple(shares), float(softmax(logits)[:, 0].mean()), largest)


def chance(n: int, p: float) -> float:
    """That n tries have unlike outcomes."""
    return 1 - p**n - (1 - p) ** n


def expected(seeds: int) -> list[tuple[str | float, ...]]:
    """At some spreads of rates, the share of groups with a gradient under three deals that know them."""
    rows: list[tuple[str | float, ...]] = []
    for name, low, high in (("of the start", 0.005, 0.9), ("hard prompts", 0.001, 0.1)):
        found: list[list[float]] = [[], [], []]
        for seed in range(seeds):
            p = np.exp(np.random.default_rng(seed).uniform(np.log(low), np.log(high), PROMPTS))
            deals = (np.full(PROMPTS, GROUP), knapsack(p, BUDGET), knapsack(p, BUDGET, value=chance))
            for kept, n in zip(found, deals, strict=True):
                kept.append(float(np.mean([chance(int(a), float(b)) for a, b in zip(n, p, strict=True)])))
        rows.append((f"{name}, {low:g} to {high:g}", *map(spread, found)))
    return rows


def softmax(logits: Array) -> Array:  # (m, k) -> (m, k)
    grown = np.exp(logits - logits.max(1, keepdims=True))
    return grown / grown.sum(1, keepdims=True)


def gradient(shares: Array, right: Array, policy: Array) -> Array:  # (m, k), (m,), (m, k) -> (m, k)
    """The mean over a group of advantage times the gradient of the log-policy.

    Advantages sum to 0 over a group, so that what is left of that gradient is the answers themselves.
    """
    deviation = np.sqrt(right * (1 - right))
    safe = np.where(deviation > 0, deviation, 1.0)
    advantage = np.zeros_like(policy) - right[:, None]
    advantage[:, 0] += 1.0
    return shares * advantage / safe[:, None]


def by_programming(rates: list[float], budget: int, least: int, most: int) -> float:
    """The largest sum of values, by dynamic programming over prompts and what is left of the budget."""
    best = np.full(budget + 1, -np.inf)
    best[0] = 0.0
    for rate in rates:
        grown = np.full(budget + 1, -np.inf)
        for n in range(least, min(most, budget) + 1):
            np.maximum(grown[n:], best[: budget + 1 - n] + told(n, rate), out=grown[n:])
        best = grown
    return float(best[budget])


def unequal(seed: int, instances: int) -> int:
    """Of random instances, those where the deal is not as good as the best, to 1e-12."""
    draws, found = np.random.default_rng(seed), 0
    for _ in range(instances):
        m, least = int(draws.integers(1, 13)), int(draws.integers(0, 4))
        rates = draws.choice([*draws.random(12), 0.0, 0.5, 1.0, 1e-3], m).tolist()
        most = least + int(draws.integers(1, 30))
        budget = int(draws.integers(m * least, min(m * most, 60) + 1)) if m * least <= 60 else m * least
        counts = knapsack(rates, budget, least=least, most=most)
        fits = counts.sum() == budget and counts.min() >= least and counts.max() <= most
        value = sum(told(int(n), rate) for n, rate in zip(counts, rates, strict=True))
        found += not (fits and abs(value - by_programming(rates, budget, least, most)) < 1e-12)
    return found


def timed(prompts: int, budget: int, repeats: int) -> tuple[float, float]:
    """Milliseconds of `knapsack` and of dynamic programming, the least of some."""
    rates = np.random.default_rng(0).random(prompts).tolist()
    seconds: list[list[float]] = [[], []]
    for _ in range(repeats):
        begun = time.perf_counter()
        knapsack(rates, budget)
        seconds[0].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        by_programming(rates, budget, LEAST, budget)
        seconds[1].append(time.perf_counter() - begun)
    return 1000 * min(seconds[0]), 1000 * min(seconds[1])


def experiment(fast: bool) -> Iterator[Table | Claim]:
    steps, seeds, instances = (10, 2, 20) if fast else (100, 10, 200)
    rates = {
        way: max(RATES[1:2] if fast else RATES, key=lambda rate, way=way: learn(way, rate, TUNING, steps).end)
        for way in WAYS
    }
    runs = {way: [learn(way, rates[way], seed, steps) for seed in range(seeds)] for way in WAYS}
    yield Table(
        f"{PROMPTS} prompts, {BUDGET} tries a step, {steps} steps, {seeds} seeds",
        (
            "",
            "rate",
            "groups with a gradient",
            "in the first half",
            "in the second",
            "right",
            "largest group",
        ),
        [
            (
                way,
                rates[way],
                spread([mean(one.shares) for one in each]),
                spread([mean(one.shares[: steps // 2]) for one in each]),
                spread([mean(one.shares[steps // 2 :]) for one in each]),
                spread([one.end for one in each]),
                max(one.largest for one in each),
            )
            for way, each in runs.items()
        ],
        "right: the chance of the right answer at the end, mean over prompts.",
    )
    yield Table(
        "Expected share of groups with a gradient, rates known",
        ("rates", EQUAL, "Knapsack", "value: that share alone"),
        expected(seeds),
        "The value that Knapsack adds up counts a gradient for p (1 - p)^2 of its rate p.",
    )
    sizes = [(16, 128)] if fast else [(16, 128), (64, 512), (256, 2048)]
    times = [timed(*size, 1 if fast else 3) for size in sizes]
    yield Table(
        "Milliseconds of a deal",
        ("prompts", "budget", "knapsack", "dynamic programming", "times as long"),
        [(*size, own, other, other / own) for size, (own, other) in zip(sizes, times, strict=True)],
        "Dynamic programming in numpy, a vector over budgets at once.",
    )
    pairs = list(zip(runs[SEEN], runs[EQUAL], strict=True))
    more = [mean(own.shares) / mean(equal.shares) - 1.2 for own, equal in pairs]
    higher = [own.end - equal.end for own, equal in pairs]
    exact = [0.5 - unequal(seed, instances) for seed in range(seeds)]
    for key, claim, what, differences in (
        ("a", "A fifth more groups have a gradient", "share over that of equal groups, less 1.2", more),
        ("b", "The chance of the right answer at the end is higher", "chance", higher),
        (
            "c",
            f"The deal is as good as that of dynamic programming, in all of {seeds * instances} instances",
            "one half less the instances where it is not, a seed",
            exact,
        ),
    ):
        yield Claim(key, claim, *verdict({what: interval(differences)}))


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
