"""Which signs tell beforehand that the plain average of fine-tuned models is worse than their base?

Frankle et al. 2020 (linear mode connectivity, arXiv 1912.05671) call the rise of the loss on the segment
between two models its barrier; guides to merging look at the cosine of task vectors (Ilharco et al. 2023)
and at the conflict of their signs (Yadav et al. 2023). AUC is the chance that an average which fell below
the base ranks as more doubtful than one that did not. A sign tells something where its AUC is above 0.7.
Claims on trial:

(a) The cosine of the task vectors does not tell: its AUC lies within 0.1 of 0.5.
(b) The barrier between models relative to their distance tells.
(c) The distance from the base, relative to its length, tells.
(d) The loss of the average on validation data, less that of the base, tells more than the distance does.
(e) The error on validation data, less that of the base, tells more than the loss does.
(f) "The mean distance is above a threshold", chosen on half of the seeds, is right on the other half more
    often than the better of the two constant answers.
(g) So is "the validation loss of the average is above the base's".

Digits of scikit-learn in four views: plain, turned, inverted, mirrored. A network of two hidden layers of 64
is pre-trained on all four, for long or short, and fine-tuned on each, for long or short, at rates large and
small: 40 merges for each seed. An average is below its base where its accuracy on test digits, over the four
views, is lower. What is inspected comes from `equipoise.merging.inspect`, with 400 validation digits in each
view, at 11 points of every segment.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from statistics import fmean

import torch
from _experiment import Claim, Table, Verdict, interval, run, spread, verdict
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from equipoise.merging import Average, inspect, merge
from equipoise.merging.conflictmap import Matrix, pairs

RECORDED: dict[str, Verdict] = {
    "a": "inconclusive",
    "b": "fails",
    "c": "holds",
    "d": "holds",
    "e": "holds",
    "f": "holds",
    "g": "inconclusive",
}

TRAIN, VALIDATION = 600, 400
BATCH = 64
BASE_RATE = 0.03
BASE_STEPS = (100, 200, 400, 800, 1600)
RATES = (0.003, 0.01, 0.03, 0.1)
STEPS = (50, 400)
POINTS = 11
FAST_BASE_STEPS, FAST_TUNINGS, FAST_POINTS = (60,), ((0.003, 5), (0.1, 60)), 3
TELLS = 0.7
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda images: images,
    "turned": lambda images: images.rot90(1, (1, 2)),
    "inverted": lambda images: 1 - images,
    "mirrored": lambda images: images.flip(2).roll(2, 1),
}

State = Mapping[str, Tensor]
Split = Mapping[str, tuple[Tensor, Tensor]]


@cache
def digits(seed: int) -> tuple[Split, Split, Split]:
    """Training, validation and test digits in every view."""
    flat, digit = load_digits(return_X_y=True)
    images = torch.as_tensor(flat, dtype=torch.float32).div(16).view(-1, 8, 8)
    labels = torch.as_tensor(digit)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    parts = order.split((TRAIN, VALIDATION, len(labels) - TRAIN - VALIDATION))
    train, validation, test = (
        {name: (view(images[part]).flatten(1), labels[part]) for name, view in VIEWS.items()}
        for part in parts
    )
    return train, validation, test


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def trained(
    start: State, images: Tensor, labels: Tensor, steps: int, rate: float, draw: torch.Generator
) -> State:
    model = network()
    model.load_state_dict(start)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for _ in range(steps):
        batch = torch.randint(len(labels), (BATCH,), generator=draw)
        optimizer.zero_grad()
        cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@torch.no_grad()
def measured(state: State, split: Split) -> tuple[dict[str, float], float]:
    """The loss of every view, and the mean error."""
    model = network()
    model.load_state_dict(state)
    losses, errors = {}, []
    for name, (images, labels) in split.items():
        scores = model(images)
        losses[name] = float(cross_entropy(scores, labels))
        errors.append(float((scores.argmax(1) != labels).double().mean()))
    return losses, fmean(errors)


@dataclass(frozen=True)
class Case:
    """One merge: what was seen of it beforehand, larger being more doubtful, and what became of it."""

    seed: int
    signs: Mapping[str, float]
    below: bool
    higher_loss: bool


def cases(
    seed: int, base_steps: Sequence[int], tunings: Sequence[tuple[float, int]], points: int
) -> Iterator[Case]:
    train, validation, test = digits(seed)
    draw = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    start = network().state_dict()
    images, labels = (torch.cat(both) for both in zip(*train.values(), strict=True))
    for steps in base_steps:
        base = trained(start, images, labels, steps, BASE_RATE, draw)
        for rate, more in tunings:
            models = {name: trained(base, *train[name], more, rate, draw) for name in VIEWS}
            yield case(seed, models, base, validation, test, points)


def case(
    seed: int, models: Mapping[str, State], base: State, validation: Split, test: Split, points: int
) -> Case:
    found = inspect(
        models, base, evaluate=lambda state: measured(state, validation)[0], points=points, threads=1
    )
    average = merge(models, method=Average(), threads=1)
    weights, seen = found.weights, found.evaluations
    assert seen is not None
    between = [segment for segment in seen.segments if segment.end is not None]
    to_base = [segment for segment in seen.segments if segment.end is None]
    (base_losses, base_error), (losses, error) = measured(base, test), measured(average, test)
    signs = {
        "low cosine": -mean_pair(weights.total.cosines),
        "opposed signs": mean_pair(weights.total.conflicts),
        "opposed signs by size": mean_pair(weights.total.weighted),
        "distance": fmean(distance or 0.0 for distance in weights.total.distances),
        "barrier": fmean(segment.barrier for segment in between),
        "barrier / distance": fmean(segment.relative or 0.0 for segment in between),
        "barrier to the base": fmean(segment.barrier for segment in to_base),
        "loss of the average": fmean(seen.average.values()) - fmean(seen.base.values()),
        "error of the average": measured(average, validation)[1] - measured(base, validation)[1],
    }
    return Case(seed, signs, error > base_error, fmean(losses.values()) > fmean(base_losses.values()))


def mean_pair(values: Matrix) -> float:
    return fmean(value or 0.0 for value in pairs(values, list(VIEWS)).values())


def auc(values: Sequence[float], bad: Sequence[bool]) -> float:
    """The chance that a bad case has the larger value; ties count half. 0.5 where all are alike."""
    worse = [value for value, is_bad in zip(values, bad, strict=True) if is_bad]
    better = [value for value, is_bad in zip(values, bad, strict=True) if not is_bad]
    if not worse or not better:
        return 0.5
    return fmean((a > b) + 0.5 * (a == b) for a in worse for b in better)


def right(threshold: float, sign: str, found: Sequence[Case]) -> float:
    """How often "below where the sign is above the threshold" is right."""
    return fmean((case.signs[sign] > threshold) == case.below for case in found)


def experiment(fast: bool) -> Iterator[Table | Claim]:
    seeds = range(2) if fast else range(10)
    base_steps = FAST_BASE_STEPS if fast else BASE_STEPS
    tunings = FAST_TUNINGS if fast else tuple(product(RATES, STEPS))
    points = FAST_POINTS if fast else POINTS
    found = {seed: list(cases(seed, base_steps, tunings, points)) for seed in seeds}
    kinds = list(found[0][0].signs)
    ranked = {
        sign: [auc([c.signs[sign] for c in found[s]], [c.below for c in found[s]]) for s in seeds]
        for sign in kinds
    }
    by_loss = {
        sign: [auc([c.signs[sign] for c in found[s]], [c.higher_loss for c in found[s]]) for s in seeds]
        for sign in kinds
    }
    every = [case for some in found.values() for case in some]
    yield Table(
        f"AUC of each sign for an average below its base ({len(every)} merges, {len(seeds)} seeds)",
        ("sign", "lower accuracy", "higher loss", "median"),
        [
            (
                sign,
                spread(ranked[sign]),
                spread(by_loss[sign]),
                sorted(case.signs[sign] for case in every)[len(every) // 2],
            )
            for sign in kinds
        ],
        f"{fmean(case.below for case in every):.0%} of averages have a lower accuracy than their base, "
        f"{fmean(case.higher_loss for case in every):.0%} a higher loss; mean and deviation over seeds",
    )
    yield from claims(ranked)
    yield from rules(found)


def claims(ranked: Mapping[str, Sequence[float]]) -> Iterator[Claim]:
    def over(one: str, other: str) -> tuple[float, float]:
        return interval([a - b for a, b in zip(ranked[one], ranked[other], strict=True)])

    cosine = ranked["low cosine"]
    yield Claim(
        "a",
        "the cosine of task vectors does not tell: AUC within 0.1 of 0.5",
        *verdict(
            {
                "AUC less 0.4": interval([x - 0.4 for x in cosine]),
                "0.6 less AUC": interval([0.6 - x for x in cosine]),
            }
        ),
    )
    for key, sign in (("b", "barrier / distance"), ("c", "distance")):
        yield Claim(
            key,
            f"the {sign} tells: AUC above {TELLS}",
            *verdict({f"AUC less {TELLS}": interval([value - TELLS for value in ranked[sign]])}),
        )
    yield Claim(
        "d",
        "the validation loss of the average tells more than the distance",
        *verdict({"AUC of loss less distance": over("loss of the average", "distance")}),
    )
    yield Claim(
        "e",
        "the validation error of the average tells more than its loss",
        *verdict({"AUC of error less loss": over("error of the average", "loss of the average")}),
    )


def rules(found: Mapping[int, Sequence[Case]]) -> Iterator[Table | Claim]:
    """Claims (f) and (g): even seeds choose a threshold of distance, odd seeds judge it."""
    chosen = [case for seed, some in found.items() if seed % 2 == 0 for case in some]
    judged = {seed: some for seed, some in found.items() if seed % 2}
    candidates = sorted(case.signs["distance"] for case in chosen)
    threshold = max(candidates, key=lambda value: right(value, "distance", chosen))
    tried = {"distance": threshold, "loss of the average": 0.0, "error of the average": 0.0}
    rows, gains = [], {}
    for sign, at in tried.items():
        scores = {seed: right(at, sign, some) for seed, some in judged.items()}
        constant = {
            seed: max(fmean(case.below for case in some), fmean(not case.below for case in some))
            for seed, some in judged.items()
        }
        gains[sign] = [scores[seed] - constant[seed] for seed in judged]
        every = [case for some in judged.values() for case in some]
        above = [case.below for case in every if case.signs[sign] > at]
        under = [case.below for case in every if case.signs[sign] <= at]
        rows.append(
            (
                f"{sign} above {at:.3g}",
                spread(list(scores.values())),
                spread(list(constant.values())),
                f"{sum(above)} of {len(above)}",
                f"{sum(under)} of {len(under)}",
            )
        )
    yield Table(
        f"rules for a warning, on {len(judged)} seeds that did not choose them",
        ("warn where", "right", "constant answer", "below if warned", "below if not"),
        rows,
    )
    for key, sign in (("f", "distance"), ("g", "loss of the average")):
        yield Claim(
            key,
            f"a warning by the {sign} is right more often than a constant answer",
            *verdict({"share of right answers gained": interval(gains[sign])}),
        )


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
