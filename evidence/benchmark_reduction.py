"""Do a few tasks, chosen by transfer between tasks, stand for a benchmark of 135?

Zhao et al. 2025 (BenTo, arXiv 2410.13804) choose tasks by facility location on a matrix of transfer between
them, and take the mean result of a model on those for its result on the whole benchmark. Here a task is a
behaviour of the persona statements: does a statement agree with it or not. Transfer from task j to task i is
how well a ridge regression on the words of 100 statements of j tells those of i: 2 AUC - 1. As in the
authors' code, tasks are alike by 1.5 times the largest distance less the distance of what they receive from
all sources, each source less its mean. A model is a ridge regression on statements of 1 to 32 tasks drawn at
random, on words or on characters, of more or fewer statements: 60 of them, judged on all 135 tasks by 100
other statements each. The error is that of a model's mean accuracy, as its mean over models, and as the
authors' NRMSE: root mean square, as a share of that of the mean accuracies. Claims on trial, over divisions
of the statements and draws of the models:

(a) With 5% of the tasks (7) the mean of the chosen ones errs less than that of random ones on average.
(b) So it does with 10% (14).
(c) Results weighted by the tasks that each chosen one stands for (`Facilities.estimate`) err less than their
    plain mean, which is the authors' estimate.
(d) It is the choice: they err less than those of random tasks that are weighted alike.
(e) It is the transfer: they err less than those of tasks chosen and weighted by their mean words.
(f) At 5% their NRMSE is below 4%.
(g) They rank models better than random tasks do: Kendall's tau of estimates with mean accuracies.

(c), (d), (e) and (g) are judged at both sizes. Seeds 0 to 9 showed which claims to put; others judge them.
Tasks chosen by the transfer itself, where positive, stand beside.
"""

import csv
import gzip
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

import numpy as np
from _experiment import Claim, Interval, Table, Verdict, interval, run, spread, verdict
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist
from scipy.stats import kendalltau, rankdata
from sklearn.feature_extraction.text import HashingVectorizer

from equipoise.problems.data import find
from equipoise.transferability import facilitylocation

RECORDED: dict[str, Verdict] = {
    "a": "holds",
    "b": "inconclusive",
    "c": "holds",
    "d": "holds",
    "e": "holds",
    "f": "inconclusive",
    "g": "holds",
}

SIZES = {"5%": 7, "10%": 14}
TRAIN = 100  # statements of a task, half of them for each answer; as many for testing
WIDTH = 2**14
RIDGE = 1.0
TASKS = (1, 2, 4, 8, 16, 32)
SHOTS = (10, 30, 100)
RIDGES = (0.1, 1.0, 10.0)
PAPER = 4.0
Array = np.ndarray


@cache
def statements() -> tuple[Array, Array, Mapping[str, csr_array]]:
    """The task of each statement, its answer as -1 or 1, and its hashed words and characters."""
    path = find("text_persona_statements", "persona.csv.gz", download=False)
    assert path is not None
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    tasks = np.unique([row["behaviour"] for row in rows], return_inverse=True)[1]
    kinds = {
        "words": HashingVectorizer(n_features=WIDTH, ngram_range=(1, 2)),
        "characters": HashingVectorizer(n_features=WIDTH, analyzer="char_wb", ngram_range=(3, 4)),
    }
    said = [row["statement"] for row in rows]
    features = {kind: csr_array(hashed.transform(said)) for kind, hashed in kinds.items()}
    return tasks, np.array([2.0 * int(row["matches"]) - 1 for row in rows]), features


@dataclass(frozen=True)
class Halves:
    """The places of the statements of each task for training and for testing: half of them, balanced."""

    train: Array  # (tasks, TRAIN)
    test: Array  # (tasks, TRAIN)


def divided(draw: np.random.Generator) -> Halves:
    tasks, answers, _ = statements()
    train, test = [], []
    for task in range(tasks.max() + 1):
        by_answer = [draw.permutation(np.flatnonzero((tasks == task) & (answers == a))) for a in (-1, 1)]
        half = TRAIN // 2
        # answers take turns, so that the first few are balanced too
        train.append(np.stack([places[:half] for places in by_answer], 1).ravel())
        test.append(np.concatenate([places[half:] for places in by_answer]))
    return Halves(np.array(train), np.array(test))


def ridge(kind: str, places: Array, penalty: float) -> Array:  # -> (WIDTH,)
    """Weights of a ridge regression on the answers of some statements, by their Gram matrix."""
    _, answers, features = statements()
    rows = features[kind][places]
    gram = (rows @ rows.T).toarray()
    return rows.T @ np.linalg.solve(gram + penalty * np.eye(len(places)), answers[places])


def transfer(halves: Halves) -> Array:  # -> (tasks, tasks)
    """2 AUC - 1 on the training statements of task i (row) of the regression on those of task j (column).

    For a task itself the regression is on one half of them and judged by the other.
    """
    _, answers, features = statements()
    count = len(halves.train)
    weights = np.stack([ridge("words", places, RIDGE) for places in halves.train], 1)
    own = np.stack([ridge("words", places[: TRAIN // 2], RIDGE) for places in halves.train], 1)
    told = np.empty((count, count))
    for task, places in enumerate(halves.train):
        told[task] = separation(features["words"][places] @ weights, answers[places])
        rest = places[TRAIN // 2 :]
        told[task, task] = separation(features["words"][rest] @ own[:, [task]], answers[rest])[0]
    return told


def separation(scores: Array, answers: Array) -> Array:  # (n, m), (n,) -> (m,)
    """2 AUC - 1 of each column."""
    ranks = rankdata(scores, axis=0)
    positive = answers > 0
    many, few = positive.sum(), (~positive).sum()
    auc = (ranks[positive].sum(0) - many * (many + 1) / 2) / (many * few)
    return 2 * auc - 1


def similarities(halves: Halves) -> dict[str, Array]:
    """What tasks are chosen by: 0 or more, how well task j stands for task i."""
    _, _, features = statements()
    told = transfer(halves)
    words = np.stack([np.asarray(features["words"][places].mean(0)).ravel() for places in halves.train])
    return {
        "transfer": near(told - told.mean(0)),
        "transfer itself": np.maximum(told, 0),
        "words": near(words),
    }


def near(rows: Array) -> Array:  # (tasks, n) -> (tasks, tasks)
    distances = cdist(rows, rows)
    return 1.5 * distances.max() - distances


def results(halves: Halves, models: int, draw: np.random.Generator) -> Array:  # -> (models, tasks)
    """The accuracy of each model on the test statements of every task."""
    _, answers, features = statements()
    count = len(halves.test)
    found = np.empty((models, count))
    for model in range(models):
        kind = ("words", "characters")[draw.integers(2)]
        some = draw.choice(count, draw.choice(TASKS), replace=False)
        places = halves.train[some, : draw.choice(SHOTS)].ravel()
        weights = ridge(kind, places, draw.choice(RIDGES))
        scores = features[kind][halves.test.ravel()] @ weights
        right = (scores > 0) == (answers[halves.test.ravel()] > 0)
        found[model] = right.reshape(halves.test.shape).mean(1)
    return found


def weighted(similarity: Array, chosen: Array, found: Array) -> Array:  # -> (models,)
    """Estimates from chosen tasks, each weighted by the tasks that it stands for."""
    stands = chosen[similarity[:, chosen].argmax(1)]
    stands[chosen] = chosen
    return found[:, stands].mean(1)


@dataclass(frozen=True)
class Judged:
    """How far estimates lie from the mean accuracy, in points and as NRMSE in %; how they rank models."""

    error: float
    nrmse: float
    tau: float


def judged(estimate: Array, truth: Array) -> Judged:
    error = estimate - truth
    nrmse = np.sqrt((error**2).mean() / (truth**2).mean())
    return Judged(100 * float(np.abs(error).mean()), 100 * float(nrmse), _first(kendalltau(estimate, truth)))


def _first(pair: Any) -> float:
    return float(pair[0])


def mean(found: Sequence[Judged]) -> Judged:
    return Judged(*(fmean(getattr(one, name) for one in found) for name in ("error", "nrmse", "tau")))


def trial(seed: int, models: int, subsets: int) -> dict[tuple[str, str], Judged]:
    """How every way of choosing does at every size; random ones are means over subsets."""
    draw = np.random.default_rng(seed)
    halves = divided(draw)
    found, similar = results(halves, models, draw), similarities(halves)
    truth = found.mean(1)
    judgements = {}
    for size, count in SIZES.items():
        for name, similarity in similar.items():
            facilities = facilitylocation(similarity, count)
            there = found[:, facilities.chosen]
            judgements[size, name] = judged(there.mean(1), truth)
            judgements[size, f"{name}, weighted"] = judged(facilities.estimate(there), truth)
        some = [draw.choice(found.shape[1], count, replace=False) for _ in range(subsets)]
        judgements[size, "random"] = mean([judged(found[:, places].mean(1), truth) for places in some])
        judgements[size, "random, weighted"] = mean(
            [judged(weighted(similar["transfer"], places, found), truth) for places in some]
        )
    return judgements


def experiment(fast: bool) -> Iterator[Table | Claim]:
    seeds = range(2) if fast else range(10, 20)
    found = [trial(seed, *((6, 20) if fast else (60, 200))) for seed in seeds]
    names = [name for size, name in found[0] if size == "5%"]
    for size, count in SIZES.items():
        rows = []
        for name in names:
            ones = [judgements[size, name] for judgements in found]
            rows.append(
                (
                    name,
                    spread([one.error for one in ones], 2),
                    spread([one.nrmse for one in ones], 2),
                    spread([one.tau for one in ones]),
                )
            )
        yield Table(
            f"the mean accuracy over 135 tasks from {count} of them ({size})",
            ("tasks chosen by", "error, points", "NRMSE, %", "Kendall's tau of models"),
            rows,
            f"mean and deviation over {len(seeds)} divisions and draws; random: the mean over subsets",
        )
    yield from claims(found)


def claims(found: Sequence[Mapping[tuple[str, str], Judged]]) -> Iterator[Claim]:
    def saved(rival: str, sizes: Sequence[str], ours: str) -> dict[str, Interval]:
        return {
            f"points of error of {rival} less {ours}, {size}": interval(
                [one[size, rival].error - one[size, ours].error for one in found]
            )
            for size in sizes
        }

    for key, size in zip("ab", SIZES, strict=True):
        yield Claim(
            key,
            f"the mean of chosen tasks errs less than that of random ones at {size}",
            *verdict(saved("random", [size], "transfer")),
        )
    both, ours = list(SIZES), "transfer, weighted"
    for key, claim, rival in (
        ("c", "weighted by the tasks they stand for, chosen tasks err less than their mean", "transfer"),
        ("d", "they err less than random tasks weighted alike", "random, weighted"),
        ("e", "they err less than tasks chosen and weighted by their words", "words, weighted"),
    ):
        yield Claim(key, claim, *verdict(saved(rival, both, ours)))
    within = interval([PAPER - one["5%", ours].nrmse for one in found])
    yield Claim("f", "at 5% of the tasks the NRMSE is below 4%", *verdict({"4 less the NRMSE in %": within}))
    taus = {
        f"tau of {ours}, less random, {size}": interval(
            [one[size, ours].tau - one[size, "random"].tau for one in found]
        )
        for size in both
    }
    yield Claim("g", "they rank models better than random ones", *verdict(taus))


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
