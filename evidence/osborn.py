"""Which sources to put together in an ensemble: OSBORN against LEEP for ensembles, greedy against exhaustive.

Vimal et al. 2023 (ICCV, arXiv 2309.02429) score a set of source models by optimal transport between domains,
by the entropy of target labels given source labels, and by the disagreement of the sources; Agostinelli et
al. 2022 (CVPR, arXiv 2111.13011) by LEEP of the mean prediction (E-LEEP) or the sum of LEEP (MS-LEEP). Eight
small networks learn MNIST's digits below 5, from 5 on, and odd or even; USPS's digits below 5 and from 5 on;
Fashion's clothes; CIFAR-10's animals and vehicles. Each is fine-tuned on 400 images of a target: MNIST,
MNIST-M, USPS, Fashion, CIFAR-10, all ten classes each. The truth of a set is the test accuracy of the mean
prediction of its fine-tuned networks; all sets of 2 and of 3 are judged. Claims on trial, over seeds, with
the mean over the targets:

(a) The rank correlation (Kendall's tau) of OSBORN with the truth is above that of MS-LEEP, sets of 3.
(b) It is above that of E-LEEP.
(c) A greedy choice of 2 or 3 under OSBORN comes as near to the best set as a greedy choice under a monotone
    submodular score does at worst: (greedy - worst) / (best - worst) of the score is at least 1 - 1/e.
(d) The set of 3 that OSBORN chooses makes a better ensemble than that of MS-LEEP; (e) than that of E-LEEP.
(f) It is better than a random set of 3.
(g) It is better than that of the mean rank of sets on the other targets, which never looks at this target.
(h) Disagreement belongs into it: without that part the rank correlation is lower.

The parts of OSBORN, LogME summed over the set, and the correlation for sets of 2 stand beside.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np
import torch
from _digit_images import images
from _experiment import Claim, Table, Verdict, interval, run, spread, verdict
from scipy.stats import kendalltau, rankdata
from torch import Tensor, nn
from torch.nn import functional

from equipoise.problems.data import find
from equipoise.transferability import Osborn, Sample, choose_sources, eleep, logme, msleep

RECORDED: dict[str, Verdict] = {
    "a": "fails",
    "b": "fails",
    "c": "inconclusive",
    "d": "fails",
    "e": "fails",
    "f": "inconclusive",
    "g": "inconclusive",
    "h": "fails",
}

SIDE = 14
BATCH = 64
RATE, TUNING_RATE = 2e-3, 1e-3
SIZES = (2, 3)
SURE = 1 - np.exp(-1)
WITHOUT = "OSBORN, without disagreement"
Part = tuple[Tensor, Tensor]  # images (n, SIDE * SIDE) and classes (n,)
SOURCES: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "MNIST 0-4": ("mnist", lambda y: y < 5),
    "MNIST 5-9": ("mnist", lambda y: y >= 5),
    "MNIST odd or even": ("mnist", lambda y: y >= 0),
    "USPS 0-4": ("usps", lambda y: y < 5),
    "USPS 5-9": ("usps", lambda y: y >= 5),
    "Fashion clothes": ("fashion", lambda y: torch.isin(y, torch.tensor([0, 2, 3, 4, 6]))),
    "CIFAR animals": ("cifar", lambda y: (y >= 2) & (y <= 7)),
    "CIFAR vehicles": ("cifar", lambda y: (y < 2) | (y > 7)),
}
TARGETS = {"MNIST": "mnist", "MNIST-M": "mnist_m", "USPS": "usps", "Fashion": "fashion", "CIFAR-10": "cifar"}
FILES = {
    "mnist_m": ("mnist_m", "mnist_m_7k.npz"),
    "fashion": ("fashion_mnist_900", "fashion_mnist_900.npz"),
    "cifar": ("cifar10", "cifar10_8k.npz"),
}


@dataclass(frozen=True)
class Course:
    """Images that a source learns from at most, of a target for tuning and testing; steps on either."""

    learnt: int = 1000
    tuned: int = 400
    tested: int = 1000
    source_steps: int = 300
    tuning_steps: int = 200


FAST, FULL = Course(200, 60, 100, 12, 8), Course()


@cache
def data(name: str) -> tuple[Part, Part]:
    """Training and test images, grey and of one size. Fashion's 900 are divided by their place."""
    if name in ("mnist", "usps"):
        parts = images(name, SIDE)
        train, test = parts["train"], parts["test"]
        return (train.x.flatten(1), train.y), (test.x.flatten(1), test.y)
    path = find(*FILES[name], download=False)
    assert path is not None
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files if key[0] in "xy"}
    if name == "fashion":
        test = np.arange(len(arrays["y"])) % 2 == 1
        arrays = {f"{k}_{p}": v[test == (p == "test")] for k, v in arrays.items() for p in ("train", "test")}
    return _part(arrays, "train"), _part(arrays, "test")


def _part(arrays: Mapping[str, np.ndarray], part: str) -> Part:
    x = torch.from_numpy(arrays[f"x_{part}"]).float().div(255)
    grey = x.mean(3) if x.dim() == 4 else x
    small = functional.interpolate(grey[:, None], (SIDE, SIDE), mode="bilinear", antialias=True)
    return small.flatten(1), torch.from_numpy(arrays[f"y_{part}"]).long()


class Network(nn.Module):
    """Two hidden layers, whose output are the features, and a linear head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(SIDE * SIDE, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def trained(model: Network, part: Part, steps: int, rate: float, draw: torch.Generator) -> Network:
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        batch = torch.randint(len(part[1]), (BATCH,), generator=draw)
        optimizer.zero_grad()
        functional.cross_entropy(model(part[0][batch]), part[1][batch]).backward()
        optimizer.step()
    return model


def drawn(part: Part, count: int, draw: torch.Generator) -> Part:
    chosen = torch.randperm(len(part[1]), generator=draw)[:count]
    return part[0][chosen], part[1][chosen]


def learnt(name: str, course: Course, draw: torch.Generator) -> tuple[Network, Part]:
    """A source's network, and the images that it learnt from with their classes, 0 .. C - 1."""
    place, belongs = SOURCES[name]
    x, y = data(place)[0]
    kept = belongs(y)
    x, y = drawn((x[kept], y[kept]), course.learnt, draw)
    y = y % 2 if name.endswith("even") else torch.unique(y, return_inverse=True)[1]
    return trained(Network(int(y.max()) + 1), (x, y), course.source_steps, RATE, draw), (x, y)


def tuned(source: Network, part: Part, steps: int, draw: torch.Generator) -> Network:
    """The source with a new head, all of it trained on the target's images."""
    model = Network(10)
    model.body.load_state_dict(source.body.state_dict())
    return trained(model, part, steps, TUNING_RATE, draw)


@torch.no_grad()
def sample(name: str, model: Network, part: Part, *, said: bool) -> Sample:
    features = model.body(part[0])
    chances = model.head(features).double().softmax(1) if said else None
    return Sample(features, part[1], chances, name=name)


Set = tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """One seed and target: the accuracy of the ensemble and every score of each set, and greedy choices."""

    truth: Mapping[Set, float]
    scores: Mapping[str, Mapping[Set, float]]
    greedy: Mapping[int, Set]


def case(target: str, sources: Mapping[str, tuple[Network, Part]], course: Course, seed: int) -> Case:
    draw = torch.Generator().manual_seed(seed)
    train, test = data(TARGETS[target])
    train, test = drawn(train, course.tuned, draw), drawn(test, course.tested, draw)
    pool = {name: sample(name, model, train, said=True) for name, (model, _) in sources.items()}
    learnt_from = {
        name: sample(name, model, drawn(part, course.tuned, draw), said=False)
        for name, (model, part) in sources.items()
    }
    chances = {
        name: predicted(tuned(model, train, course.tuning_steps, draw), test[0])
        for name, (model, _) in sources.items()
    }
    sets = [chosen for size in SIZES for chosen in combinations(sources, size)]
    truth = {
        chosen: float((torch.stack([chances[n] for n in chosen]).sum(0).argmax(1) == test[1]).double().mean())
        for chosen in sets
    }
    judge = Osborn(pool, learnt_from)
    single = {name: logme(one) for name, one in pool.items()}

    def part_of(chosen: Set) -> dict[str, Sample]:
        return {name: pool[name] for name in chosen}

    scores = {
        "OSBORN": {chosen: judge(chosen) for chosen in sets},
        WITHOUT: {chosen: -sum(judge.domain[n] + judge.task[n] for n in chosen) for chosen in sets},
        "OSBORN, domain": {chosen: -sum(judge.domain[n] for n in chosen) for chosen in sets},
        "OSBORN, task": {chosen: -sum(judge.task[n] for n in chosen) for chosen in sets},
        "OSBORN, disagreement": {
            chosen: judge(chosen) + sum(judge.domain[n] + judge.task[n] for n in chosen) for chosen in sets
        },
        "MS-LEEP": {chosen: msleep(part_of(chosen)) for chosen in sets},
        "E-LEEP": {chosen: eleep(part_of(chosen)) for chosen in sets},
        "LogME, sum": {chosen: sum(single[n] for n in chosen) for chosen in sets},
    }
    greedy = {size: choose_sources(pool, judge, size, lazy=True).names for size in SIZES}
    return Case(truth, scores, greedy)


@torch.no_grad()
def predicted(model: Network, x: Tensor) -> Tensor:
    return model(x).softmax(1)


def of_size(values: Mapping[Set, float], size: int) -> dict[Set, float]:
    return {chosen: value for chosen, value in values.items() if len(chosen) == size}


def tau(scores: Mapping[Set, float], truth: Mapping[Set, float], size: int) -> float:
    sets = list(of_size(truth, size))
    pair: Any = kendalltau([scores[s] for s in sets], [truth[s] for s in sets])
    return float(pair[0])


def with_static(found: Mapping[str, Case]) -> dict[str, dict[str, Mapping[Set, float]]]:
    """The scores of each target, with the mean rank of each set among those of its size on the others."""
    ranks = {
        target: {
            chosen: float(rank)
            for size in SIZES
            for chosen, rank in zip(
                of_size(one.truth, size), rankdata(list(of_size(one.truth, size).values())), strict=True
            )
        }
        for target, one in found.items()
    }
    return {
        target: {
            **one.scores,
            "static": {
                chosen: fmean(ranks[other][chosen] for other in found if other != target)
                for chosen in one.truth
            },
        }
        for target, one in found.items()
    }


def picked(scores: Mapping[Set, float], size: int) -> Set:
    among = of_size(scores, size)
    return max(among, key=lambda chosen: among[chosen])


def experiment(fast: bool) -> Iterator[Table | Claim]:
    course, among = (FAST, list(SOURCES)[:5]) if fast else (FULL, list(SOURCES))
    seeds, targets = (range(1), list(TARGETS)[2:4]) if fast else (range(10), list(TARGETS))
    trials = []
    for seed in seeds:
        torch.manual_seed(seed)
        draw = torch.Generator().manual_seed(seed)
        sources = {name: learnt(name, course, draw) for name in among}
        trials.append(
            {target: case(target, sources, course, 1000 * seed + at) for at, target in enumerate(targets)}
        )
    scored = [with_static(found) for found in trials]
    yield from correlations(trials, scored)
    yield from choices(trials, scored)


Trials = Sequence[Mapping[str, Case]]
Scored = Sequence[Mapping[str, Mapping[str, Mapping[Set, float]]]]


def correlations(trials: Trials, scored: Scored) -> Iterator[Table | Claim]:
    targets = list(trials[0])
    names = list(scored[0][targets[0]])
    taus = {
        (name, size, target): [
            tau(scores[target][name], found[target].truth, size)
            for found, scores in zip(trials, scored, strict=True)
        ]
        for name in names
        for size in SIZES
        for target in targets
    }
    means = {
        (name, size): [fmean(column) for column in zip(*(taus[name, size, t] for t in targets), strict=True)]
        for name in names
        for size in SIZES
    }
    within = {
        target: [value for found in trials for value in of_size(found[target].truth, 3).values()]
        for target in targets
    }
    yield Table(
        "Kendall's tau with the accuracy of the ensemble, sets of 3 of 8 sources",
        ("score", "mean", *targets, "mean, sets of 2"),
        [
            (
                name,
                spread(means[name, 3]),
                *(spread(taus[name, 3, target], 2) for target in targets),
                spread(means[name, 2]),
            )
            for name in names
        ],
        f"mean and deviation over {len(trials)} seeds; static: the mean rank on the other targets. "
        "Accuracies of sets of 3: "
        + ", ".join(f"{target} {min(some):.2f} to {max(some):.2f}" for target, some in within.items()),
    )
    for key, rival in (("a", "MS-LEEP"), ("b", "E-LEEP"), ("h", WITHOUT)):
        gains = [a - b for a, b in zip(means["OSBORN", 3], means[rival, 3], strict=True)]
        yield Claim(
            key,
            f"OSBORN's rank correlation with the truth is above that of {rival}",
            *verdict({f"tau of OSBORN less {rival}": interval(gains)}),
        )


def choices(trials: Trials, scored: Scored) -> Iterator[Table | Claim]:
    targets = list(trials[0])
    shares, same = {}, {}
    for size in SIZES:
        pairs = [
            (of_size(one.scores["OSBORN"], size), one.greedy[size])
            for found in trials
            for one in found.values()
        ]
        shares[size] = [
            (values[_sorted(chosen)] - min(values.values())) / (max(values.values()) - min(values.values()))
            for values, chosen in pairs
        ]
        same[size] = [values[_sorted(chosen)] >= max(values.values()) - 1e-9 for values, chosen in pairs]
    yield Table(
        "greedy choice under OSBORN against all sets",
        ("sources", "the same set", "worst (greedy - worst) / (best - worst)", "mean"),
        [(size, f"{fmean(same[size]):.0%}", min(shares[size]), fmean(shares[size])) for size in SIZES],
        f"{len(trials)} seeds, {len(targets)} targets",
    )
    lost = {
        name: [
            100
            * fmean(
                max(of_size(found[t].truth, 3).values()) - found[t].truth[picked(scores[t][name], 3)]
                for t in targets
            )
            for found, scores in zip(trials, scored, strict=True)
        ]
        for name in scored[0][targets[0]]
    }
    lost["random"] = [
        100
        * fmean(
            max(of_size(found[t].truth, 3).values()) - fmean(of_size(found[t].truth, 3).values())
            for t in targets
        )
        for found in trials
    ]
    yield Table(
        "points of accuracy that the chosen set of 3 loses to the best one",
        ("chosen by", "points"),
        [(name, spread(values, 2)) for name, values in lost.items()],
        f"mean over {len(targets)} targets, mean and deviation over {len(trials)} seeds",
    )
    worst = {
        f"least share less 1 - 1/e, {size} sources": (min(shares[size]) - SURE, min(shares[size]) - SURE)
        for size in SIZES
    }
    yield Claim(
        "c", "a greedy choice under OSBORN is within 1 - 1/e of the best, in every case", *verdict(worst)
    )
    for key, rival in (("d", "MS-LEEP"), ("e", "E-LEEP"), ("f", "random"), ("g", "static")):
        gains = [a - b for a, b in zip(lost[rival], lost["OSBORN"], strict=True)]
        yield Claim(
            key,
            f"the set that OSBORN chooses makes a better ensemble than that of {rival}",
            *verdict({f"points lost by {rival} less OSBORN": interval(gains)}),
        )


def _sorted(chosen: Set) -> Set:
    """In the order of the pool, as sets are listed."""
    return tuple(name for name in SOURCES if name in chosen)


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
