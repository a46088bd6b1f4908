"""One model from four experts: every method of room `merging` on four kinds of digits.

A small network is trained on MNIST and tuned to USPS, MNIST-M, turned and inverted digits, each with 5000
images, all with one head (`_experts.py`). The base is narrow (trained on MNIST alone, so that turned and
inverted digits mean nothing to it) or broad (100 images of each task were mixed in). Each method merges the
four experts as it comes (its defaults) and with its merged task vector scaled by the lambda that is best on
200 validation images of each task, from the same grid for all methods. Methods that look at data see 256
training images of each task. "With kernels" treats the kernels of convolutions as matrices, where the papers'
codes average all that has not two axes; DOGE has then a length eta of 1 instead of 0.07, which is for larger
matrices and beyond the grid's reach here. Claims, each on the mean test accuracy over tasks, in percentage
points, in both settings:

(a) TIES, lambda tuned, is better than the plain average (Yadav et al., NeurIPS 2023).
(b) RegMean as it comes is better than the best of all methods without data (the best by validation images,
    lambda tuned).
(c) WUDI in closed form is better than by the authors' steps of Adam, lambda 1 and tuned; kernels as matrices.
(d) LiNeS on top of task arithmetic helps, both tuned (Wang et al., ICLR 2025).
(e) DOGE, kernels as matrices, is better than task arithmetic, both tuned (Wei et al., ICML 2025).
(f) Self Positioning as it comes is better than the plain average (Li et al. 2024).
(g) TSV-M and (h) Iso-C, kernels as matrices, are better than task arithmetic, all tuned (Gargiulo et al.,
    CVPR 2025; Marczak et al., ICML 2025).
(i) The plain average is at least as good as the model that all experts come from.

Each expert alone, the base and a model trained on all four tasks from the base are in the table too.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from _experiment import Claim, Interval, Table, Verdict, interval, run, spread, verdict
from _experts import BROAD, NARROW, TRIAL, Course, Experts, State, accuracies, mean_accuracy, trained
from _merging_methods import Method, best_alone, fused, moved, near, own_accuracies, rules, systems

RECORDED: dict[str, Verdict] = {
    "a": "inconclusive",
    "b": "holds",
    "c": "inconclusive",
    "d": "inconclusive",
    "e": "fails",
    "f": "holds",
    "g": "inconclusive",
    "h": "inconclusive",
    "i": "holds",
}

GRID = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0)
SETTINGS: Mapping[str, Course] = {"narrow base": NARROW, "broad base": BROAD}
PAIR = ("usps", "inverted")
CLAIMS = {
    "a": "TIES is better than the plain average",
    "b": "RegMean is better than the best method without data",
    "c": "WUDI in closed form is better than by the authors' steps of Adam",
    "d": "LiNeS on top of task arithmetic helps",
    "e": "DOGE is better than task arithmetic",
    "f": "Self Positioning is better than the plain average",
    "g": "TSV-M is better than task arithmetic",
    "h": "Iso-C is better than task arithmetic",
    "i": "The plain average is at least as good as the base",
}


@dataclass(frozen=True)
class Outcome:
    """Test accuracies by task in per cent as the method comes and with lambda tuned, lambda, validation."""

    plain: Mapping[str, float]
    tuned: Mapping[str, float]
    scale: float
    validation: float


Outcomes = Mapping[str, Sequence[Outcome]]
"""Those of each method, seed by seed."""


def judged(experts: Experts, state: State, grid: Sequence[float]) -> Outcome:
    def validation(scale: float) -> float:
        return mean_accuracy(moved(experts.base, state, scale), experts, "validation")

    scores = {scale: validation(scale) for scale in grid}
    scale = max(scores, key=lambda one: scores[one])
    plain = accuracies(state, experts, "test")
    tuned = accuracies(moved(experts.base, state, scale), experts, "test")
    return Outcome(plain, tuned, scale, scores[scale])


def outcomes(
    methods: Sequence[Method], pool: Sequence[Experts], grid: Sequence[float], steps: int
) -> dict[str, list[Outcome]]:
    return {
        method.name: [judged(experts, method.make(experts, steps), grid) for experts in pool]
        for method in methods
    }


def rows_of(methods: Sequence[Method], found: Outcomes) -> list[tuple[str, ...]]:
    rows = []
    for method in methods:
        seen = found[method.name]
        cells = [
            spread([value(one) for one in accuracy], 1)
            for accuracy in ([one.plain for one in seen], [one.tuned for one in seen])
            for value in (lambda by: mean(by.values()), lambda by: min(by.values()))
        ]
        scales = sorted(one.scale for one in seen)
        rows.append((method.name, method.data, *cells, f"{scales[len(scales) // 2]:g}"))
    return rows


def references(pool: Sequence[Experts]) -> list[tuple[str, ...]]:
    """Rows of models that are not merged."""
    found = {
        "each expert on its own task": [own_accuracies(experts) for experts in pool],
        "all tasks together": [[*accuracies(e.joint, e, "test").values()] for e in pool],
        "best expert on all tasks": [
            [*accuracies(e.experts[best_alone(e)], e, "test").values()] for e in pool
        ],
        "the base": [[*accuracies(e.base, e, "test").values()] for e in pool],
    }
    return [
        (name, "", spread(list(map(mean, seen)), 1), spread(list(map(min, seen)), 1), "", "", "")
        for name, seen in found.items()
    ]


def over(one: Sequence[float], other: Sequence[float]) -> Interval:
    return interval([a - b for a, b in zip(one, other, strict=True)])


def advantages(found: Outcomes, methods: Sequence[Method], pool: Sequence[Experts]) -> Mapping[str, dict]:
    """Of each claim, in one setting."""

    def plain(name: str) -> list[float]:
        return [mean(one.plain.values()) for one in found[name]]

    def tuned(name: str) -> list[float]:
        return [mean(one.tuned.values()) for one in found[name]]

    without = [method.name for method in methods if not method.data]
    best = max(without, key=lambda name: mean(one.validation for one in found[name]))
    closed, steps, arithmetic = "WUDI with kernels", "WUDI by Adam with kernels", tuned("TaskArithmetic")
    base = [mean_accuracy(experts.base, experts, "test") for experts in pool]
    return {
        "a": {"": over(tuned("TIES"), plain("Average"))},
        "b": {f" over {best}": over(plain("RegMean"), tuned(best))},
        "c": {
            " at 1": over(plain(closed), plain(steps)),
            " tuned": over(tuned(closed), tuned(steps)),
        },
        "d": {"": over(tuned("LiNeS on TaskArithmetic"), arithmetic)},
        "e": {"": over(tuned("DOGE with kernels"), arithmetic)},
        "f": {"": over(plain("SelfPositioning"), plain("Average"))},
        "g": {"": over(tuned("TSVM with kernels"), arithmetic)},
        "h": {"": over(tuned("IsoC with kernels"), arithmetic)},
        "i": {"": over(plain("Average"), base)},
    }


COLUMNS = ("method", "looks at", "mean", "worst", "tuned: mean", "tuned: worst", "lambda")
NOTE = "Test accuracy in %, over tasks; lambda: that of the best validation accuracy, its median over seeds."


def experiment(fast: bool) -> Iterator[Table | Claim]:
    seeds, steps, grid = (1, 4, GRID[5:7]) if fast else (5, 10_000, GRID)
    settings = {"a trial": TRIAL} if fast else SETTINGS
    seen: dict[str, dict[str, Interval]] = {key: {} for key in CLAIMS}
    for setting, course in settings.items():
        pool = [trained(course, seed) for seed in range(seeds)]
        methods = [*rules(), *systems()]
        found = outcomes(methods, pool, grid, steps)
        rows = [*references(pool), *rows_of(methods, found)]
        yield Table(f"four experts, {setting}, {seeds} seeds", COLUMNS, rows, NOTE)
        for key, intervals in advantages(found, methods, pool).items():
            seen[key] |= {setting + words: one for words, one in intervals.items()}
        beside = {"NearSwap": near, "ArceeFusion": fused}
        pairs = [
            *rules(two=True),
            *(Method(f"{name}, {PAIR[0]} as the base", "", make) for name, make in beside.items()),
        ]
        two = [experts.only(*PAIR) for experts in pool]
        rows = [*references(two), *rows_of(pairs, outcomes(pairs, two, grid, steps))]
        title = f"two experts ({' and '.join(PAIR)}), {setting}, {seeds} seeds"
        yield Table(title, COLUMNS, rows, f"{NOTE} All tasks together: the model of all four.")
    for key, claim in CLAIMS.items():
        yield Claim(key, claim, *verdict(seen[key]))


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
