"""Which encoder of a pool to start from: every score, the plain baselines, and what each of them costs.

Thirty small encoders of five sources, eight targets that none has seen (`_encoders`), fine-tuned at N = 60
and 300 images, five draws each. A score sees the N images of a draw under each encoder and orders the pool;
Kendall's weighted tau (Vigna 2015, as scipy's `weightedtau`) compares that order with the fine-tuned
accuracies, means over the draws. Three of the draws are scored. The baselines: parameter count and source
accuracy, which never see a target; the mean rank of the fine-tuned accuracies on the seven other targets, at
the same N; nearest neighbours and linear probes on the features; and the accuracy of one fine-tuning against
the mean of the other four, which is as well as a single trial knows. Claims, each of the paper in brackets:

(a) At N = 60, below the width of most encoders, LogME with its whole determinant is ahead of the published
    code (`legacy`).
(b) LogME is ahead of the ranking by the other targets, which never sees the target.
(c) Some score is ahead of the ridge probe: the one that is best on one half of the targets, judged on the
    other half, both ways.
(d) At N = 60 H-score with Ledoit and Wolf's shrinkage is ahead of H-score (Ibrahim et al. 2021).
(e) SFDA is ahead of LogME (Shao et al. 2022). (f) N-LEEP is ahead of LEEP (Li et al. 2021).
(g) GBC, on 64 principal components, is ahead of LogME (Pándy et al. 2022).
(h) TransRate is ahead of LogME (Huang et al. 2022).
(i) ETran is ahead of SFDA (Gholami et al. 2023). (j) PED improves SFDA (Li et al. 2023).
(k) The ranking by other targets does as well as the score of (c), within 0.05.
(l) The score of (c) is ahead of the parameter count.
(m) Among encoders of one shape, which the parameter count cannot tell apart, the score of (c) has the right
    order of the sources more often than not: plain tau of the five sources, mean over the six shapes.

Differences are paired and taken over the targets, each the mean of its sizes and draws: eight numbers, for
the two sizes of one target are not independent. In this pool wide encoders fine-tune better on every target,
so that counting parameters is hard to beat; what a score knows beyond that is the tau of one shape.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean

import numpy as np
from _encoder_tasks import SOURCES, TARGETS
from _encoders import Course, Pool
from _experiment import Claim, Interval, Table, Verdict, interval, run, spread, verdict
from scipy import stats

from equipoise.transferability import (
    Sample,
    energy,
    etran,
    gbc,
    hscore,
    knn,
    leep,
    logisticprobe,
    logme,
    nce,
    ncm,
    nleep,
    pactran,
    parc,
    ped,
    ridgeprobe,
    sfda,
    tmi,
    transrate,
)

RECORDED: dict[str, Verdict] = {
    "a": "inconclusive",
    "b": "fails",
    "c": "holds",
    "d": "inconclusive",
    "e": "inconclusive",
    "f": "inconclusive",
    "g": "fails",
    "h": "inconclusive",
    "i": "fails",
    "j": "fails",
    "k": "holds",
    "l": "fails",
    "m": "holds",
}

Array = np.ndarray
FAST = Course(4, 2, (20, 30), 2, 50, TARGETS[:3], SOURCES[:2])
SCORED = 3
"""Draws that are scored."""
WITHIN = 0.05
Score = Callable[[Sample, Array], float]
SCORES: Mapping[str, Score] = {
    "LogME": lambda sample, _: logme(sample),
    "LogME, legacy": lambda sample, _: logme(sample, legacy=True),
    "LEEP": lambda sample, _: leep(sample),
    "NCE": lambda sample, _: nce(sample),
    "N-LEEP": lambda sample, _: nleep(sample),
    "H-score": lambda sample, _: hscore(sample),
    "H-score, shrunk": lambda sample, _: hscore(sample, shrinkage=True),
    "TransRate": lambda sample, _: transrate(sample),
    "GBC": lambda sample, _: gbc(sample),
    "GBC, spherical": lambda sample, _: gbc(sample, spherical=True),
    "GBC, all features": lambda sample, _: gbc(sample, components=None),
    "SFDA": lambda sample, _: sfda(sample),
    "PED of SFDA": lambda sample, reference: ped(sample, reference=reference),
    "PED of LogME": lambda sample, reference: ped(sample, score=logme, reference=reference),
    "NCM": lambda sample, _: ncm(sample),
    "energy": lambda sample, _: energy(sample),
    "PARC": lambda sample, _: parc(sample),
    "TMI": lambda sample, _: tmi(sample),
    "TMI, scale-free": lambda sample, _: tmi(sample, scale_free=True),
    "PACTran": lambda sample, _: pactran(sample),
}
ETRAN = "ETran"
PROBES: Mapping[str, Score] = {
    "1 neighbour": lambda sample, _: knn(sample),
    "5 neighbours": lambda sample, _: knn(sample, neighbours=5),
    "ridge probe": lambda sample, _: ridgeprobe(sample),
    "logistic probe": lambda sample, _: logisticprobe(sample),
}
PARAMETERS, SOURCE, OTHERS = "parameter count", "source accuracy", "mean rank on other targets"
ONCE = "one fine-tuning"
CANDIDATES = (*SCORES, ETRAN)
ROWS = (*CANDIDATES, *PROBES, PARAMETERS, SOURCE, OTHERS, ONCE)
Cell = tuple[str, int]


def tau(scores: Sequence[float] | Array, truth: Array) -> float:
    """Kendall's weighted tau; 0 where scores agree to ten digits, which orders nothing."""
    values = np.asarray(scores, float)
    scale = np.abs(values).max() or 1.0
    found = float(np.asarray(stats.weightedtau(np.round(values / scale, 10), truth))[0])
    return 0.0 if np.isnan(found) else found


def tau_within(scores: Sequence[float] | Array, truth: Array, shapes: int) -> float:
    """Kendall's tau among encoders of one shape, which follow each other; mean over the shapes."""
    values = np.asarray(scores, float)
    values = np.round(values / (np.abs(values).max() or 1.0), 10)
    pairs = zip(values.reshape(shapes, -1), truth.reshape(shapes, -1), strict=True)
    found = [float(np.asarray(stats.kendalltau(one, other))[0]) for one, other in pairs]
    return fmean(0.0 if np.isnan(one) else one for one in found)


class Taus:
    """The weighted tau of every row of the table, by target and size, a number for each draw that is scored.

    `within`: likewise, among encoders of one shape. `seconds`: of the processor, for one score of one model,
    all that were taken.
    """

    def __init__(self, pool: Pool) -> None:
        course = pool.course
        self.course, self.shapes = course, len(pool.stacks)
        self.found: dict[str, dict[Cell, list[float]]] = {name: {} for name in ROWS}
        self.within: dict[str, dict[Cell, list[float]]] = {name: {} for name in ROWS}
        self.seconds: dict[str, dict[int, list[float]]] = {
            name: {size: [] for size in course.sizes} for name in (*CANDIDATES, *PROBES, ONCE)
        }
        references = pool.references()
        truths: dict[Cell, Array] = {}
        for target in course.targets:
            for size in course.sizes:
                start = time.process_time()
                found = truths[target, size] = pool.truth(target, size)
                self.seconds[ONCE][size].append((time.process_time() - start) / found.size)
                self._scored(pool, (target, size), found.mean(1), references)
        for (target, size), truth in truths.items():
            others = [
                stats.rankdata(truths[other, size].mean(1)) for other in course.targets if other != target
            ]
            static = {
                PARAMETERS: [pool.parameters[name] for name in pool.names],
                SOURCE: [pool.source_accuracy[name] for name in pool.names],
                OTHERS: np.mean(others, axis=0),
            }
            for name, values in static.items():
                self._judge(name, (target, size), values, truth.mean(1))
            for one in range(course.draws):
                self._judge(ONCE, (target, size), truth[:, one], np.delete(truth, one, 1).mean(1))
        self.truths = truths

    def _scored(self, pool: Pool, cell: Cell, truth: Array, references: Mapping[str, Array]) -> None:
        """Every score and probe; a new sample each time, so that none pays for what they share."""
        target, size = cell
        for draw in range(min(SCORED, pool.course.draws - 1)):
            samples = pool.samples(target, size, draw)
            for name, score in (*SCORES.items(), *PROBES.items()):
                values = []
                for model, sample in samples.items():
                    start = time.process_time()
                    values.append(score(fresh(sample), references[model]))
                    self.seconds[name][size].append(time.process_time() - start)
                self._judge(name, cell, values, truth)
            start = time.process_time()
            together = etran({model: fresh(sample) for model, sample in samples.items()})
            self.seconds[ETRAN][size].append((time.process_time() - start) / len(samples))
            self._judge(ETRAN, cell, [together[model] for model in samples], truth)

    def _judge(self, name: str, cell: Cell, values: Sequence[float] | Array, truth: Array) -> None:
        self.found[name].setdefault(cell, []).append(tau(values, truth))
        self.within[name].setdefault(cell, []).append(tau_within(values, truth, self.shapes))

    def at(self, name: str, size: int) -> list[float]:
        """For each target, mean over its draws."""
        return [fmean(self.found[name][target, size]) for target in self.course.targets]

    def by_target(self, name: str, sizes: Sequence[int] | None = None) -> list[float]:
        """For each target, mean over sizes and draws."""
        columns = [self.at(name, size) for size in sizes or self.course.sizes]
        return [fmean(values) for values in zip(*columns, strict=True)]

    def within_by_target(self, name: str) -> list[float]:
        """For each target, among encoders of one shape, mean over sizes and draws."""
        cells = self.within[name]
        return [
            fmean(fmean(cells[target, size]) for size in self.course.sizes) for target in self.course.targets
        ]

    def ahead(self, one: str, other: str, sizes: Sequence[int] | None = None) -> dict[str, Interval]:
        """How far one is ahead of another, by target."""
        return {f"tau above that of {other}": over(self.by_target(one, sizes), self.by_target(other, sizes))}

    def chosen(self) -> tuple[list[str], list[float]]:
        """For each target the score that is best on the other half of the targets, and its tau."""
        columns = {name: np.array(self.by_target(name)) for name in CANDIDATES}
        places = np.arange(len(self.course.targets))
        half = places // 2 % 2  # two of digits and two of other things in either
        best = [max(columns, key=lambda name: columns[name][half != own].mean()) for own in half]
        return best, [float(columns[name][at]) for at, name in enumerate(best)]


def fresh(sample: Sample) -> Sample:
    """The same without what was computed from it."""
    return Sample(sample.features, sample.labels, sample.probabilities, name=sample.name)


def over(one: Sequence[float], other: Sequence[float], within: float = 0.0) -> Interval:
    return interval([a - b + within for a, b in zip(one, other, strict=True)])


def tables(taus: Taus, pool: Pool) -> Iterator[Table]:
    course = taus.course
    few, many = min(course.sizes), max(course.sizes)
    yield Table(
        "Fine-tuned accuracy in % over the pool",
        ("target", "N", "worst", "mean", "best", "largest encoders", "deviation over draws"),
        [
            (
                target,
                size,
                *[float(f(truth.mean(1))) for f in (np.min, np.mean, np.max)],
                float(truth.mean(1)[largest(pool)].mean()),
                float(truth.std(1, ddof=1).mean()),
            )
            for (target, size), truth in taus.truths.items()
        ],
    )
    rows = []
    for name in sorted(ROWS, key=lambda name: -fmean(taus.by_target(name))):
        cost = taus.seconds.get(name)
        rows.append(
            (
                name,
                spread(taus.by_target(name)),
                *[spread(taus.at(name, size)) for size in (few, many)],
                spread(taus.within_by_target(name)),
                *[f"{1000 * fmean(cost[size]):.2f}" if cost else "none" for size in (few, many)],
            )
        )
    yield Table(
        f"Weighted tau of {len(pool.names)} encoders, mean and deviation over {len(course.targets)} targets",
        ("by", "all", f"N = {few}", f"N = {many}", "of one shape", f"ms a model, N = {few}", f"N = {many}"),
        rows,
        "of one shape: plain tau among the sources, mean over shapes and sizes. "
        f"ms: of one thread, features given. One fine-tuning: {course.tuning} steps, many networks at once.",
    )
    yield Table(
        "Weighted tau by target, mean over sizes and draws",
        ("by", *course.targets),
        [(name, *[round(value, 2) for value in taus.by_target(name)]) for name in ROWS],
    )


def largest(pool: Pool) -> list[int]:
    most = max(pool.parameters.values())
    return [at for at, name in enumerate(pool.names) if pool.parameters[name] == most]


def experiment(fast: bool) -> Iterator[Table | Claim]:
    pool = Pool(FAST if fast else Course())
    taus = Taus(pool)
    yield from tables(taus, pool)
    names, chosen = taus.chosen()
    few = [min(pool.course.sizes)]
    says = ", ".join(dict.fromkeys(names))
    beyond = over(taus.by_target(OTHERS), chosen, WITHIN)
    claims = {
        "a": ("At N = 60 LogME is ahead of its published code", taus.ahead("LogME", "LogME, legacy", few)),
        "b": ("LogME is ahead of the ranking by other targets", taus.ahead("LogME", OTHERS)),
        "c": (
            "The score that is best on half of the targets is ahead of the ridge probe on the other half",
            {f"{says}: tau above": over(chosen, taus.by_target("ridge probe"))},
        ),
        "d": (
            "At N = 60 H-score with shrinkage is ahead of H-score",
            taus.ahead("H-score, shrunk", "H-score", few),
        ),
        "e": ("SFDA is ahead of LogME", taus.ahead("SFDA", "LogME")),
        "f": ("N-LEEP is ahead of LEEP", taus.ahead("N-LEEP", "LEEP")),
        "g": ("GBC is ahead of LogME", taus.ahead("GBC", "LogME")),
        "h": ("TransRate is ahead of LogME", taus.ahead("TransRate", "LogME")),
        "i": ("ETran is ahead of SFDA", taus.ahead(ETRAN, "SFDA")),
        "j": ("PED improves SFDA", taus.ahead("PED of SFDA", "SFDA")),
        "k": (
            f"The ranking by other targets does as well as the score chosen so, within {WITHIN}",
            {f"{says}: tau beyond that": beyond},
        ),
        "l": (
            "The score that is best on half of the targets is ahead of the parameter count on the other half",
            {f"{says}: tau above": over(chosen, taus.by_target(PARAMETERS))},
        ),
    }
    within = [taus.within_by_target(name)[at] for at, name in enumerate(names)]
    claims["m"] = (
        "Among encoders of one shape the score chosen so orders the sources better than chance",
        {f"{says}: tau": interval(within)},
    )
    for key, (claim, advantages) in claims.items():
        yield Claim(key, claim, *verdict(advantages))


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
