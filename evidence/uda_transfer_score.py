"""Choosing a domain-adaptation model without target labels: Transfer Score against simpler signs.

Yang et al. 2024 (ICLR, arXiv 2305.18712) add up how evenly the classifier's weights lie, how well target
features cluster (Hopkins statistic), and the mutual information of target samples and predictions. A small
convolutional network learns MNIST with labels and adapts to USPS or to MNIST-M without: by nothing, by the
difference of covariances (CORAL), of kernel means (MMD) or by the entropy of target predictions, each of the
three with four weights, and is kept six times along its training: 78 checkpoints. Signs are computed on 1000
unlabelled training images of the target, source accuracy on held-out MNIST; the truth is the accuracy on the
target's test images. Claims on trial, over seeds, for each target:

(a) Transfer Score's rank correlation (Spearman) with target accuracy, over all checkpoints, is above that of
    source accuracy; (b) than that of low entropy of the target predictions.
(c) The checkpoint with the highest Transfer Score loses less target accuracy, to the best one, than that with
    the highest source accuracy; (d) than that with the lowest entropy.
(e) It loses less than the last checkpoints do on average, over the ways of adaptation.
(f) Within a run, the checkpoint of the highest Transfer Score is better than the last one, mean over runs.
(g) The sum is worth more than its best part: its rank correlation is above that of the mutual information.

Seeds 0 to 4, under larger weights of MMD, at most of which the features collapse, are not reported. The parts
of the score and the distances CORAL and MMD of source and target features stand beside.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

import numpy as np
import torch
from _digit_images import images
from _experiment import Claim, Table, Verdict, interval, run, spread, verdict
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional

from equipoise.problems.data import find
from equipoise.transferability import Sample, coral, mmd, transferscore
from equipoise.transferability.transferscore import certainty, hopkins, unevenness

RECORDED: dict[str, Verdict] = {
    "a": "holds",
    "b": "holds",
    "c": "fails",
    "d": "holds",
    "e": "holds",
    "f": "inconclusive",
    "g": "fails",
}

SIDE = 16
LABELLED, UNLABELLED, TESTED = 4000, 4000, 1000
BATCH = 64
RATE = 1e-3
STEPS, KEPT = 360, 6
FEATURES = 64
TARGETS = {"USPS": "usps", "MNIST-M": "mnist_m"}
WEIGHTS = {
    "nothing": (0.0,),
    "CORAL": (0.1, 1.0, 10.0, 100.0),
    "MMD": (0.01, 0.03, 0.1, 0.3),
    "entropy": (0.03, 0.1, 0.3, 1.0),
}
SIGNS = (
    "Transfer Score",
    "Hopkins statistic",
    "mutual information",
    "even weights",
    "source accuracy",
    "low entropy",
    "low CORAL",
    "low MMD",
)


@cache
def data(name: str) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Training and test images (n, 3, SIDE, SIDE) and their digits."""
    if name != "mnist_m":
        parts = images(name, SIDE)
        return {part: (_colours(parts[part].x), parts[part].y) for part in ("train", "test")}
    path = find("mnist_m", "mnist_m_7k.npz", download=False)
    assert path is not None
    with np.load(path, allow_pickle=False) as file:
        return {
            part: (
                functional.interpolate(
                    torch.from_numpy(file[f"x_{part}"]).float().div(255).permute(0, 3, 1, 2),
                    (SIDE, SIDE),
                    mode="bilinear",
                    antialias=True,
                ),
                torch.from_numpy(file[f"y_{part}"]).long(),
            )
            for part in ("train", "test")
        }


def _colours(grey: Tensor) -> Tensor:  # (n, a, a) -> (n, 3, a, a)
    return grey[:, None].expand(-1, 3, -1, -1)


class Network(nn.Module):
    """Two convolutions, FEATURES features, a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24 * 16, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, 10)


def penalty(kind: str, source: Tensor, target: Tensor, scores: Tensor) -> Tensor:
    """What is added to the loss, of a batch of source features, target features and target scores."""
    match kind:
        case "CORAL":
            return (source.T.cov() - target.T.cov()).square().sum() / (4 * FEATURES**2)
        case "MMD":
            return discrepancy(source, target)
        case "entropy":
            return -(scores.softmax(1) * scores.log_softmax(1)).sum(1).mean()
    return scores.new_zeros(())


def discrepancy(source: Tensor, target: Tensor) -> Tensor:
    """The squared difference of kernel means, five Gaussian kernels around the mean distance."""
    both = torch.cat([source, target])
    squares = torch.cdist(both, both).square()
    width = squares.detach().mean()
    kernel = sum((-squares / (width * 2.0**power)).exp() for power in range(-2, 3))
    n = len(source)
    assert isinstance(kernel, Tensor)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a model without target labels, and its accuracy on the target."""

    way: str
    step: int
    signs: Mapping[str, float]
    accuracy: float


@dataclass(frozen=True)
class Domains:
    """The images of one seed."""

    labelled: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]
    unlabelled: Tensor
    test: tuple[Tensor, Tensor]


def domains(target: str, seed: int) -> Domains:
    draw = torch.Generator().manual_seed(seed)

    def drawn(name: str, part: str, count: int) -> tuple[Tensor, Tensor]:
        x, y = data(name)[part]
        chosen = torch.randperm(len(y), generator=draw)[:count]
        return x[chosen], y[chosen]

    return Domains(
        drawn("mnist", "train", LABELLED),
        drawn("mnist", "test", TESTED),
        drawn(target, "train", UNLABELLED)[0],
        drawn(target, "test", TESTED),
    )


def checkpoints(kind: str, weight: float, given: Domains, seed: int, steps: int) -> Iterator[Checkpoint]:
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    model = Network()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    x, y = given.labelled
    for step in range(1, steps + 1):
        batch = torch.randint(len(y), (BATCH,), generator=draw)
        others = torch.randint(len(given.unlabelled), (BATCH,), generator=draw)
        optimizer.zero_grad()
        source = model.body(x[batch])
        loss = functional.cross_entropy(model.head(source), y[batch])
        if weight:
            target = model.body(given.unlabelled[others])
            loss = loss + weight * penalty(kind, source, target, model.head(target))
        loss.backward()
        optimizer.step()
        if step % (steps // KEPT) == 0:
            yield judged(f"{kind} {weight:g}" if weight else kind, step, model, given)


@torch.no_grad()
def judged(way: str, step: int, model: Network, given: Domains) -> Checkpoint:
    features = model.body(given.unlabelled[:TESTED]).double()
    chances = model.head(features.float()).double().softmax(1).numpy()
    held_out = model.body(given.held_out[0])
    weights = model.head.weight.double().numpy()
    sample = Sample(features, None, chances, name=way)
    source = Sample(held_out.double(), name=f"{way}, source")
    signs = {
        "Transfer Score": transferscore(sample, weights=weights),
        "Hopkins statistic": hopkins(sample.features),
        "mutual information": certainty(chances),
        "even weights": -unevenness(weights),
        "source accuracy": accuracy(model.head(held_out), given.held_out[1]),
        "low entropy": float((chances * np.log(np.maximum(chances, 1e-30))).sum(1).mean()),
        "low CORAL": -coral(source, sample),
        "low MMD": -mmd(source, sample, limit=300),
    }
    return Checkpoint(way, step, signs, accuracy(model.head(model.body(given.test[0])), given.test[1]))


def accuracy(scores: Tensor, labels: Tensor) -> float:
    return float((scores.argmax(1) == labels).double().mean())


Trial = Sequence[Checkpoint]


def trial(target: str, seed: int, weights: Mapping[str, Sequence[float]], steps: int) -> Trial:
    given = domains(TARGETS[target], seed)
    return [
        one
        for kind, some in weights.items()
        for weight in some
        for one in checkpoints(kind, weight, given, seed, steps)
    ]


def correlation(sign: str, found: Trial) -> float:
    values = [one.signs[sign] for one in found]
    if max(values) == min(values):
        return 0.0
    pair: Any = spearmanr(values, [one.accuracy for one in found])
    return float(pair[0])


def lost(sign: str, found: Trial) -> float:
    """Points of target accuracy that the checkpoint of the highest sign loses to the best one."""
    chosen = max(found, key=lambda one: one.signs[sign])
    return 100 * (max(one.accuracy for one in found) - chosen.accuracy)


def runs(found: Trial) -> list[Trial]:
    ways = dict.fromkeys(one.way for one in found)
    return [[one for one in found if one.way == way] for way in ways]


def lost_by_last(found: Trial) -> float:
    """The same of the last checkpoints, mean over the ways."""
    return 100 * (max(one.accuracy for one in found) - fmean(some[-1].accuracy for some in runs(found)))


def within_runs(sign: str, found: Trial) -> float:
    """Points gained on the last checkpoint by the one with the highest sign, mean over the runs."""
    return 100 * fmean(
        max(some, key=lambda one: one.signs[sign]).accuracy - some[-1].accuracy for some in runs(found)
    )


def experiment(fast: bool) -> Iterator[Table | Claim]:
    seeds = range(1) if fast else range(10, 15)
    targets = ["USPS"] if fast else list(TARGETS)
    weights = {"nothing": (0.0,), "CORAL": (1.0,), "entropy": (0.1,)} if fast else WEIGHTS
    found = {
        target: [trial(target, seed, weights, 60 if fast else STEPS) for seed in seeds] for target in targets
    }
    for target, trials in found.items():
        yield accuracies(target, trials)
        yield signs(target, trials)
    yield from claims(found)


def accuracies(target: str, trials: Sequence[Trial]) -> Table:
    ways = list(dict.fromkeys(one.way for one in trials[0]))
    steps = list(dict.fromkeys(one.step for one in trials[0]))
    seen = {
        (way, step): [
            100 * one.accuracy for some in trials for one in some if (one.way, one.step) == (way, step)
        ]
        for way in ways
        for step in steps
    }
    return Table(
        f"{target}: accuracy on the target, in %",
        ("adapted by", *(f"step {step}" for step in steps)),
        [(way, *(spread(seen[way, step], 1) for step in steps)) for way in ways],
        f"mean and deviation over {len(trials)} seeds",
    )


def signs(target: str, trials: Sequence[Trial]) -> Table:
    return Table(
        f"{target}: signs without target labels, {len(trials[0])} checkpoints",
        (
            "highest",
            "Spearman's correlation",
            "points lost by the choice",
            "points gained on the last of a run",
        ),
        [
            (
                sign,
                spread([correlation(sign, some) for some in trials]),
                spread([lost(sign, some) for some in trials], 1),
                spread([within_runs(sign, some) for some in trials], 1),
            )
            for sign in SIGNS
        ]
        + [("the last of a run", "", spread([lost_by_last(some) for some in trials], 1), "0")],
        f"mean and deviation over {len(trials)} seeds; points of target accuracy",
    )


def claims(found: Mapping[str, Sequence[Trial]]) -> Iterator[Claim]:
    ours = "Transfer Score"

    def correlations(rival: str) -> dict[str, tuple[float, float]]:
        return {
            f"{target}, correlation less that of {rival}": interval(
                [correlation(ours, some) - correlation(rival, some) for some in trials]
            )
            for target, trials in found.items()
        }

    def choices(rival: str) -> dict[str, tuple[float, float]]:
        return {
            f"{target}, points lost by {rival} less {ours}": interval(
                [lost(rival, some) - lost(ours, some) for some in trials]
            )
            for target, trials in found.items()
        }

    for key, rival in (("a", "source accuracy"), ("b", "low entropy")):
        yield Claim(
            key,
            f"Transfer Score goes with target accuracy more than {rival} does",
            *verdict(correlations(rival)),
        )
    for key, rival in (("c", "source accuracy"), ("d", "low entropy")):
        yield Claim(
            key, f"its choice loses less target accuracy than that of {rival}", *verdict(choices(rival))
        )
    last = {
        f"{target}, points lost by the last less {ours}": interval(
            [lost_by_last(some) - lost(ours, some) for some in trials]
        )
        for target, trials in found.items()
    }
    yield Claim("e", "its choice loses less than the last checkpoints do on average", *verdict(last))
    gained = {
        f"{target}, points gained on the last": interval([within_runs(ours, some) for some in trials])
        for target, trials in found.items()
    }
    yield Claim("f", "within a run its choice is better than the last checkpoint", *verdict(gained))
    yield Claim(
        "g",
        "the sum goes with target accuracy more than the mutual information alone",
        *verdict(correlations("mutual information")),
    )


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
