"""LogME's published code leaves out a term where samples are fewer than features: what does it cost?

LogME (You et al. 2021, arXiv 2102.11005) is log p(t | F, alpha, beta) / N of a Bayesian linear model, at the
alpha and beta where it is greatest, for each class t as 0 and 1. The authors' code for many targets sums
log(alpha + beta s) over the k = rank(F) squared singular values s and leaves out (D - k) log alpha / 2, so
that with k < D the score is no evidence. `logme` has the term, `logme(..., legacy=True)` has not. The dense
evidence is the log density of N(0, I / beta + F F' / alpha), an N x N matrix, at its own greatest value over
alpha and beta. Features are those of the encoders of `_encoders` for eight targets, from another start than
in `transferability.py`; truth is their fine-tuned accuracy. Claims:

(a) LogME is within 0.01 of the dense evidence wherever the rank is below the width.
(b) At N < D the published code is more than 0.1 above it.
(c) With shuffled labels the published code prefers the wider encoder: its score rises with the width.
(d) With shuffled labels LogME does not: the rise is below 0.05.
(e) At N < D the published code chooses a wider encoder than LogME does.
(f) At N < D its choice fine-tunes less well, and (g) its whole order is less right (weighted tau).

(a) and (b) are judged over targets, each at its worst over sizes and encoders of one source; (c) to (g) over
targets, at N = 20 and 60 together. Encoders are 48, 128 and 320 wide: at N = 20 all have N < D.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from _encoder_tasks import SOURCES, TARGETS
from _encoders import WIDTHS, Course, Pool
from _experiment import Claim, Table, Verdict, interval, run, spread, verdict
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, weightedtau

from equipoise.transferability import Sample, logme

RECORDED: dict[str, Verdict] = {
    "a": "holds",
    "b": "holds",
    "c": "holds",
    "d": "holds",
    "e": "holds",
    "f": "inconclusive",
    "g": "inconclusive",
}

Array = np.ndarray
FEW = (20, 60)
GRID = (20, 60, 120, 240)
FAST = Course(4, 2, (20, 60), 2, 50, TARGETS[:2], SOURCES[:2])
FULL = Course(sizes=(*FEW, max(GRID)))
SCORED = 3
BOUNDS = (-12.0, 16.0)
"""Of log alpha and log beta, in the dense evidence."""
SHOWN = "usps 0-4"
"""The source of the encoders whose numbers are compared with the dense evidence."""


def dense(features: Array, labels: Array) -> float:
    """The greatest log evidence over alpha and beta of every class, for each sample, from N x N matrices."""
    features = features.astype(float)
    gram = features @ features.T
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 0)
    found = []
    for c in np.unique(labels):
        target = (labels == c).astype(float)
        squares = (vectors.T @ target) ** 2

        def cost(logs: Array, squares: Array = squares) -> float:
            variances = np.exp(-logs[1]) + values * np.exp(-logs[0])
            return float(np.log(variances).sum() + (squares / variances).sum())

        starts = [
            minimize(cost, (a, b), method="L-BFGS-B", bounds=[BOUNDS] * 2)
            for a in (0.0, 4.0)
            for b in (0.0, 4.0)
        ]
        alpha, beta = np.exp(min(starts, key=lambda one: one.fun).x)
        covariance = np.eye(len(target)) / beta + gram / alpha
        found.append(multivariate_normal.logpdf(target, np.zeros(len(target)), covariance))
    return fmean(found) / len(labels)


@dataclass(frozen=True)
class Number:
    """Of one encoder and N images of a target: its rank, and scores with true and with shuffled labels."""

    target: str
    model: str
    size: int
    width: int
    rank: int
    exact: float
    corrected: float
    legacy: float
    shuffled: float
    legacy_shuffled: float


def numbers(pool: Pool, sizes: tuple[int, ...]) -> Iterator[Number]:
    """On the first draw, for the encoders of one source."""
    for target in pool.course.targets:
        for size in sizes:
            samples = pool.samples(target, size, 0)
            for model in (name for name in samples if name.startswith(SHOWN)):
                features, labels = samples[model].features, samples[model].labels
                mixed = np.random.default_rng(size).permutation(labels)
                yield Number(
                    target,
                    model,
                    size,
                    features.shape[1],
                    int(np.linalg.matrix_rank(features)),
                    dense(features, labels),
                    logme(features, labels),
                    logme(features, labels, legacy=True),
                    logme(features, mixed),
                    logme(features, mixed, legacy=True),
                )


@dataclass(frozen=True)
class Choice:
    """What a way of scoring chooses for a target and size, mean over draws."""

    width: float
    accuracy: float
    order: float


def choices(pool: Pool, target: str, size: int, truth: Array) -> Mapping[str, Choice]:
    """LogME's and the published code's choice, and the best one."""
    widths = [int(name.rsplit(" ", 1)[1]) for name in pool.names]
    found: dict[str, list[tuple[float, ...]]] = {"LogME": [], "legacy": []}
    for draw in range(min(SCORED, pool.course.draws - 1)):
        samples = pool.samples(target, size, draw)
        for name, legacy in (("LogME", False), ("legacy", True)):
            values = [_scored(samples[model], legacy) for model in pool.names]
            at = int(np.argmax(values))
            order = float(np.asarray(weightedtau(values, truth))[0])
            found[name].append((widths[at], truth[at], order))
    best = int(truth.argmax())
    return {
        **{name: Choice(*np.mean(rows, axis=0).tolist()) for name, rows in found.items()},
        "best": Choice(widths[best], float(truth[best]), 1.0),
    }


def _scored(sample: Sample, legacy: bool) -> float:
    return logme(sample.features, sample.labels, legacy=legacy)


def grid(found: list[Number], sizes: tuple[int, ...]) -> Table:
    rows = []
    for size in sizes:
        for width in WIDTHS:
            here = [one for one in found if one.size == size and one.width == width]
            columns = zip(
                *[
                    (
                        one.rank,
                        one.exact,
                        one.corrected,
                        one.legacy,
                        one.shuffled,
                        one.legacy_shuffled,
                    )
                    for one in here
                ],
                strict=True,
            )
            worst = max(abs(one.corrected - one.exact) for one in here)
            rank, *scores = [fmean(column) for column in columns]
            rows.append((size, width, rank, *[round(score, 3) for score in scores], f"{worst:.1g}"))
    return Table(
        f"Evidence per sample, encoders of {SHOWN}, mean over targets and both depths",
        ("N", "D", "rank", "dense", "LogME", "legacy", "LogME, shuffled", "legacy, shuffled", "farthest"),
        rows,
        "shuffled: labels in random order; farthest: LogME's greatest difference from the dense evidence.",
    )


def experiment(fast: bool) -> Iterator[Table | Claim]:
    course = FAST if fast else FULL
    pool = Pool(course, seed=1)
    sizes = course.sizes if fast else GRID
    found = list(numbers(pool, sizes))
    yield grid(found, sizes)
    seen: dict[tuple[str, int], Mapping[str, Choice]] = {}
    for target in course.targets:
        for size in FEW:
            seen[target, size] = choices(pool, target, size, pool.truth(target, size).mean(1))
    yield Table(
        f"The choice of {len(pool.names)} encoders, mean and deviation over {len(course.targets)} targets",
        ("N", "by", "width", "accuracy in %", "below the best", "weighted tau"),
        [
            (
                size,
                name,
                spread([seen[t, size][name].width for t in course.targets], 0),
                spread([seen[t, size][name].accuracy for t in course.targets], 1),
                spread(
                    [seen[t, size]["best"].accuracy - seen[t, size][name].accuracy for t in course.targets], 1
                ),
                spread([seen[t, size][name].order for t in course.targets]),
            )
            for size in FEW
            for name in ("LogME", "legacy", "best")
        ],
    )
    yield from claims(found, seen, course.targets)


def claims(
    found: list[Number], seen: Mapping[tuple[str, int], Mapping[str, Choice]], targets: tuple[str, ...]
) -> Iterator[Claim]:
    lacking = {t: [one for one in found if one.target == t and one.rank < one.width] for t in targets}

    def rise(target: str, kind: str) -> float:
        """From the narrowest to the widest encoders, labels shuffled."""
        few = [one for one in lacking[target] if one.size in FEW]
        ends = [
            fmean(getattr(one, kind) for one in few if one.width == width)
            for width in (min(WIDTHS), max(WIDTHS))
        ]
        return ends[1] - ends[0]

    def gained(what: str) -> list[float]:
        """LogME's less that of the published code, by target."""
        return [
            fmean(getattr(seen[t, n]["LogME"], what) - getattr(seen[t, n]["legacy"], what) for n in FEW)
            for t in targets
        ]

    near = [0.01 - max(abs(one.corrected - one.exact) for one in lacking[t]) for t in targets]
    far = [min(one.legacy - one.exact for one in lacking[t] if one.size < one.width) - 0.1 for t in targets]
    said = {
        "a": ("LogME is within 0.01 of the dense evidence where the rank is below the width", near, "spare"),
        "b": ("At N < D the published code is more than 0.1 above it", far, "beyond 0.1"),
        "c": (
            "With shuffled labels the published code rises with the width",
            [rise(t, "legacy_shuffled") for t in targets],
            "rise",
        ),
        "d": (
            "With shuffled labels LogME rises by less than 0.05 with the width",
            [0.05 - rise(t, "shuffled") for t in targets],
            "spare",
        ),
        "e": (
            "At N < D the published code chooses a wider encoder than LogME",
            [-x for x in gained("width")],
            "wider by",
        ),
        "f": ("At N < D the choice of LogME fine-tunes better", gained("accuracy"), "points gained"),
        "g": ("At N < D the order of LogME is more right", gained("order"), "weighted tau gained"),
    }
    for key, (claim, values, words) in said.items():
        yield Claim(key, claim, *verdict({words: interval(values)}))


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
