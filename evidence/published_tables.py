"""Does a ranking that never looks at the target beat the published scores, on their own tables?

Every score is judged by its weighted Kendall tau with fine-tuned accuracy, target by target. The static
ranking sorts models by their mean rank on the other targets of the same table: it knows how the models did
elsewhere and nothing of the target. Accuracies, and the taus of the scores, are those that the authors of
scores published (`_published_accuracies.py` names each repository). Three pools: 11 supervised networks on 11
targets (Shao et al. 2022, SFDA); 12 self-supervised ones on the same targets, with the means of Li et al.
2023 (PED); 10 supervised ones on 8 targets, tuned anew (the benchmark of thuml/Transfer-Learning-Library).
Claims on trial, that the static ranking is above

(a) every published score on the supervised pool: SFDA, N-LEEP, LogME, PARC, LEEP;
(b) the best published mean on the self-supervised pool, which is that of SFDA + PED; since the taus of single
    targets stand in no repository, a mean is compared with a constant;
(c) every published score on the pool tuned anew: H-score, LogME, NCE, LEEP, whose taus are computed here
    from the scores and accuracies printed there (some of the taus printed beside do not follow from them);
(d) the same, where the static ranking is from another paper's table: ranks on the targets of the SFDA table,
    without the target itself, for models that others have tuned anew;
(e) and, on that pool, that the model it puts first loses less accuracy than the first of the best score;
(f) and that even the history of a single other target does as well as the best published score of the
    supervised pool (SFDA): its mean tau over all other targets is higher.

Sizes of models and their accuracy on ImageNet, which know even less, stand beside.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import TypeVar

import numpy as np
from _experiment import Claim, Interval, Table, Verdict, interval, run, spread, verdict
from _published_accuracies import (
    IMAGENET,
    SELF_SUPERVISED,
    SELF_SUPERVISED_MEANS,
    SIZES,
    SUPERVISED,
    SUPERVISED_TAUS,
    TARGETS,
    TUNED,
    TUNED_MODELS,
    TUNED_PRINTED,
    TUNED_SCORES,
    Rows,
)
from scipy.stats import rankdata, weightedtau

RECORDED: dict[str, Verdict] = {
    "a": "holds",
    "b": "inconclusive",
    "c": "inconclusive",
    "d": "inconclusive",
    "e": "inconclusive",
    "f": "inconclusive",
}

T = TypeVar("T")
Matrix = np.ndarray  # (targets, models)
Found = Mapping[str, Mapping[str, float]]  # a number for each ranking and target
ELSEWHERE = "static of another paper"
ROUNDING = 0.07  # what three decimals of the scores, which leave ties, may do to a tau


def tau(scores: Sequence[float] | np.ndarray, accuracies: Sequence[float] | np.ndarray) -> float:
    return float(np.asarray(weightedtau(scores, accuracies))[0])


def static(accuracies: Matrix) -> Matrix:
    """For each target the mean rank of each model on all others; higher is better."""
    ranks = rankdata(accuracies, axis=1)
    return (ranks.sum(0) - ranks) / (len(ranks) - 1)


def of_others(accuracies: Matrix) -> list[float]:
    """For each target the mean tau of the accuracies on one other target."""
    return [
        fmean(tau(row, target) for at, row in enumerate(accuracies) if at != place)
        for place, target in enumerate(accuracies)
    ]


def by_target(rows: Rows) -> Matrix:
    return np.array(list(rows.values())).T


def named(targets: Sequence[str], values: Iterable[T]) -> dict[str, T]:
    return dict(zip(targets, values, strict=True))


def taus(targets: Sequence[str], scores: Matrix, accuracies: Matrix) -> dict[str, float]:
    return named(targets, map(tau, scores, accuracies))


def facts(targets: Sequence[str], accuracies: Matrix, models: Sequence[str]) -> dict[str, dict[str, float]]:
    """The taus of what is known of models without any target."""
    known = {"parameters": SIZES, "accuracy on ImageNet": IMAGENET}
    return {
        name: named(targets, (tau([values[m] for m in models], row) for row in accuracies))
        for name, values in known.items()
    }


def gains(found: Found, rivals: Iterable[str], ours: str = "static") -> dict[str, Interval]:
    """How far the taus of one ranking lie above those of others, on the targets that both have."""
    return {f"tau of {ours} less {name}": advantage(found[ours], found[name]) for name in rivals}


def advantage(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Interval:
    return interval([ours[target] - theirs[target] for target in theirs if target in ours])


def table(title: str, column: str, targets: Sequence[str], found: Found, digits: int, note: str) -> Table:
    """A row for each ranking, with a column for each target; empty where the source has no number."""
    rows = [
        (
            name,
            spread(list(values.values()), digits),
            *(f"{values[target]:.{min(digits, 2)}f}" if target in values else "" for target in targets),
        )
        for name, values in found.items()
    ]
    return Table(title, ("ranking", column, *targets), rows, note)


def supervised() -> Iterator[Table | Claim]:
    accuracies = by_target(SUPERVISED)
    found = {
        **{name: named(TARGETS, values) for name, values in SUPERVISED_TAUS.items()},
        "static": taus(TARGETS, static(accuracies), accuracies),
        "one other target": named(TARGETS, of_others(accuracies)),
        **facts(TARGETS, accuracies, list(SUPERVISED)),
    }
    yield table(
        f"{len(SUPERVISED)} supervised networks: weighted tau with the accuracies of Shao et al. 2022",
        "mean tau",
        TARGETS,
        found,
        3,
        "mean and deviation over targets; one other target: the mean over which one",
    )
    yield Claim(
        "a",
        "a static ranking is above every published score, supervised networks",
        *verdict(gains(found, SUPERVISED_TAUS)),
    )
    yield Claim(
        "f",
        "the history of one other target is above SFDA",
        *verdict(gains(found, ["SFDA"], "one other target")),
    )


def self_supervised() -> Iterator[Table | Claim]:
    accuracies = by_target(SELF_SUPERVISED)
    ours = taus(TARGETS, static(accuracies), accuracies)
    best = max(SELF_SUPERVISED_MEANS, key=lambda name: SELF_SUPERVISED_MEANS[name])
    yield Table(
        f"{len(SELF_SUPERVISED)} self-supervised ResNet-50s: mean weighted tau",
        ("ranking", "mean tau"),
        [
            *((name, f"{value:.3f}") for name, value in SELF_SUPERVISED_MEANS.items()),
            ("static", spread(list(ours.values()))),
            ("one other target", spread(of_others(accuracies))),
        ],
        f"published means are of Li et al. 2023, the others over {len(ours)} targets, mean and deviation; "
        f"static: {', '.join(f'{target} {value:.2f}' for target, value in ours.items())}",
    )
    above = interval([value - SELF_SUPERVISED_MEANS[best] for value in ours.values()])
    yield Claim(
        "b",
        "a static ranking is above the best published mean, self-supervised networks",
        *verdict({f"tau of static less the mean of {best}": above}),
    )


def tuned_anew() -> Iterator[Table | Claim]:
    targets, accuracies = list(TUNED), np.array(list(TUNED.values()))
    scored = {
        name: {target: tau(values, TUNED[target]) for target, values in scores.items()}
        for name, scores in TUNED_SCORES.items()
    }
    rankings = {"static": static(accuracies), ELSEWHERE: from_elsewhere(targets)}
    found = {
        **scored,
        **{name: taus(targets, scores, accuracies) for name, scores in rankings.items()},
        "one other target": named(targets, of_others(accuracies)),
        **facts(targets, accuracies, TUNED_MODELS),
    }
    yield table(
        f"{len(TUNED_MODELS)} supervised networks tuned anew (thuml/Transfer-Learning-Library): weighted tau",
        "mean tau",
        targets,
        found,
        3,
        "taus of scores are computed from the scores and accuracies printed there. The taus printed there "
        f"are others: {', '.join(departures(scored))}",
    )
    lost = {
        **{name: losses(scores) for name, scores in TUNED_SCORES.items()},
        **{name: losses(named(targets, scores)) for name, scores in rankings.items()},
        "accuracy on ImageNet": losses({target: [IMAGENET[m] for m in TUNED_MODELS] for target in targets}),
    }
    yield table(
        "what the first of each ranking loses, in points of accuracy, to the best of the pool",
        "mean",
        targets,
        lost,
        2,
        "networks tuned anew; the scores of NCE on DTD are not in the source",
    )
    yield Claim(
        "c",
        "a static ranking is above every published score, networks tuned anew",
        *verdict(gains(found, TUNED_SCORES)),
    )
    yield Claim(
        "d",
        "so is the static ranking of another paper's table",
        *verdict(gains(found, TUNED_SCORES, ELSEWHERE)),
    )
    best = min(TUNED_SCORES, key=lambda name: fmean(lost[name].values()))
    saved = {target: -value for target, value in lost["static"].items()}
    yield Claim(
        "e",
        "the first of the static ranking loses less accuracy than the first of the best score",
        *verdict(
            {
                f"points lost by {best} less static": advantage(
                    saved, {target: -value for target, value in lost[best].items()}
                )
            }
        ),
    )


def departures(scored: Found) -> Iterator[str]:
    """The taus printed beside scores and accuracies from which they do not follow, beyond rounding."""
    for name, values in scored.items():
        for target, value in values.items():
            printed = TUNED_PRINTED[name][list(TUNED).index(target)]
            if abs(printed - value) > ROUNDING:
                yield f"{name} on {target} {printed:.2f}, not {value:.2f}"


def from_elsewhere(targets: Sequence[str]) -> Matrix:
    """Mean ranks of the models tuned anew in the table of SFDA, without the target itself."""
    rows = {
        target: rankdata([SUPERVISED[model][place] for model in TUNED_MODELS])
        for place, target in enumerate(TARGETS)
    }
    return np.array(
        [np.mean([rows[other] for other in TARGETS if other != target], axis=0) for target in targets]
    )


def losses(scores: Mapping[str, Sequence[float] | np.ndarray]) -> dict[str, float]:
    """For each target the best accuracy less that of the model with the highest score."""
    return {
        target: max(TUNED[target]) - TUNED[target][int(np.argmax(values))]
        for target, values in scores.items()
    }


def experiment(fast: bool) -> Iterator[Table | Claim]:
    """Nothing is drawn and nothing trained: `--fast` is the whole of it."""
    del fast
    yield from supervised()
    yield from self_supervised()
    yield from tuned_anew()


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
