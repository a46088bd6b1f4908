"""The front over merging weights from few evaluations: quadratic surrogates against a direct sweep.

Li et al., ICLR 2025 (MAP, arXiv 2406.07529), on experts for kinds of digits (`_experts.py`, narrow
base): merged models are the base plus weighted task vectors, weights in [0, 1]; the metrics are the
accuracies of the tasks on 200 validation images each. MAP evaluates 16 merged models of two experts (three
pairs of tasks) and 27 of three (one set), fits a quadratic to each metric and delivers the models of the
predicted front, none of which it evaluated. A sweep evaluates as many models, on a grid of 4 x 4 or
3 x 3 x 3 or at random, and delivers those that no other dominates. What is delivered is judged on test
images: by its hypervolume, as a share of the box between the accuracies of the base and those without an
error. Claims:

(a) Quadratics describe the metrics: their R^2 at 30 places that were not fitted is above 0.9 (our threshold).
(b) With two experts, and (c) with three, the front of MAP has more hypervolume than those of both sweeps.
(d) Accuracies are described better through a sigmoid, as the authors fit them: a higher R^2.

(a) and (d) are judged with two experts and with three. (b) and (c) were one claim, inconclusive, before the
result was seen. A front of MAP has 21 models, those of the sweeps as many as no other dominates.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import mean

import torch
from _experiment import Claim, Interval, Table, Verdict, interval, run, spread, verdict
from _experts import NARROW, TRIAL, Experts, State, accuracies, trained
from torch import Tensor

from equipoise.core.front import Front
from equipoise.merging import MAP, MergeFront, TaskArithmetic, merge

RECORDED: dict[str, Verdict] = {
    "a": "inconclusive",
    "b": "holds",
    "c": "inconclusive",
    "d": "holds",
}

SETS: Mapping[str, Sequence[Sequence[str]]] = {
    "two experts": (("usps", "inverted"), ("turned", "inverted"), ("mnist-m", "turned")),
    "three experts": (("usps", "turned", "inverted"),),
}
SIDES = {2: 4, 3: 3}
"""Places along each side of the grid, by the number of experts."""
HELD_OUT = 30
ENOUGH = 0.9
CLAIMS = {
    "a": f"Quadratics describe the metrics at other places, R^2 above {ENOUGH}",
    "b": "MAP's front of two experts has more hypervolume than a sweep of as many evaluations",
    "c": "MAP's front of three experts has more hypervolume than a sweep of as many evaluations",
    "d": "A sigmoid describes accuracies better",
}
WAYS = ("MAP", "MAP through a sigmoid", "grid", "at random")


@dataclass(frozen=True)
class Outcome:
    """Hypervolume and number of models delivered, and for surrogates R^2 at places that were not fitted."""

    volume: float
    delivered: int
    fit: float | None = None


def metrics(experts: Experts, state: State, part: str = "validation") -> dict[str, float]:
    """Accuracies by task, as shares."""
    return {name: value / 100 for name, value in accuracies(state, experts, part).items()}


def merged(experts: Experts, place: Tensor) -> State:
    weights = dict(zip(experts.names, place.tolist(), strict=True))
    return merge(experts.experts, experts.base, method=TaskArithmetic(weight=weights), threads=1)


def values(experts: Experts, places: Tensor, part: str = "validation") -> Tensor:  # (n, m) -> (n, m)
    """The accuracies at places of weights."""
    found = [[*metrics(experts, merged(experts, place), part).values()] for place in places]
    return torch.tensor(found, dtype=torch.float64)


def volume(experts: Experts, places: Tensor) -> float:
    """Of what is delivered, on test images."""
    low = torch.tensor([*metrics(experts, experts.base, "test").values()], dtype=torch.float64)
    missing = (1 - values(experts, places, "test")) / (1 - low)
    return Front(experts.names, missing).hypervolume([1.0] * len(low))


def by_map(experts: Experts, count: int, link, held: tuple[Tensor, Tensor]) -> Outcome:
    solver = MAP(evaluations=count, link=link)
    found: MergeFront = solver.trade_offs(
        experts.experts, experts.base, lambda state: metrics(experts, state), threads=1
    )
    front = found.predicted.nondominated()
    places = torch.stack([one["weights"] for one in front.solutions])
    return Outcome(volume(experts, places), len(places), explained(found.surrogate.predict(held[0]), held[1]))


def explained(predicted: Tensor, seen: Tensor) -> float:  # (n, m), (n, m)
    """R^2, the mean over metrics."""
    left = (seen - predicted).square().mean(0) / seen.var(0, correction=0)
    return float((1 - left).mean())


def by_sweep(experts: Experts, places: Tensor) -> Outcome:
    """Those that no other dominates on validation images."""
    solutions = [{"weights": place} for place in places]
    front = Front(experts.names, -values(experts, places), solutions=solutions).nondominated()
    kept = torch.stack([one["weights"] for one in front.solutions])
    return Outcome(volume(experts, kept), len(kept))


def outcomes(experts: Experts, seed: int) -> dict[str, Outcome]:
    draw = torch.Generator().manual_seed(seed)
    m = len(experts.names)
    count = SIDES[m] ** m
    places = torch.rand(HELD_OUT, m, generator=draw, dtype=torch.float64)
    held = places, values(experts, places)
    side = torch.linspace(0, 1, SIDES[m], dtype=torch.float64).tolist()
    grid = torch.tensor(list(product(side, repeat=m)), dtype=torch.float64)
    return {
        "MAP": by_map(experts, count, "none", held),
        "MAP through a sigmoid": by_map(experts, count, "sigmoid", held),
        "grid": by_sweep(experts, grid),
        "at random": by_sweep(experts, torch.rand(count, m, generator=draw, dtype=torch.float64)),
    }


def experiment(fast: bool) -> Iterator[Table | Claim]:
    seeds = 1 if fast else 5
    pool = [trained(TRIAL if fast else NARROW, seed) for seed in range(seeds)]
    seen: dict[str, dict[str, Interval]] = {key: {} for key in CLAIMS}
    for key, (words, sets) in zip("bc", SETS.items(), strict=True):
        sets = sets[:1] if fast else sets
        found = [[outcomes(experts.only(*one), seed) for one in sets] for seed, experts in enumerate(pool)]

        def by_seed(way: str, value: Callable[[Outcome], float], found=found) -> list[float]:
            return [mean(value(one[way]) for one in of_seed) for of_seed in found]

        volumes = {way: by_seed(way, lambda one: one.volume) for way in WAYS}
        fits = {way: by_seed(way, lambda one: one.fit or 0.0) for way in WAYS[:2]}
        count = SIDES[len(sets[0])] ** len(sets[0])
        rows = [
            (
                way,
                spread(volumes[way]),
                f"{mean(by_seed(way, lambda one: one.delivered)):.1f}",
                spread(fits[way]) if way in fits else "",
            )
            for way in WAYS
        ]
        title = f"{words}, {count} evaluations each, {len(sets)} sets of tasks, {seeds} seeds"
        note = "Hypervolume on test images, above the base; R^2 of accuracies on validation images."
        yield Table(title, ("way", "hypervolume", "models delivered", "R^2 at other places"), rows, note)
        seen["a"][words] = interval([one - ENOUGH for one in fits["MAP"]])
        for way in WAYS[2:]:
            seen[key][f"over the sweep {way}"] = over(volumes["MAP"], volumes[way])
        seen["d"][words] = over(fits["MAP through a sigmoid"], fits["MAP"])
    for key, claim in CLAIMS.items():
        yield Claim(key, claim, *verdict(seen[key]))


def over(one: Sequence[float], other: Sequence[float]) -> Interval:
    return interval([a - b for a, b in zip(one, other, strict=True)])


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
