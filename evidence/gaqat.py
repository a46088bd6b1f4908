"""GAQAT: freezing the task loss on the scales of quantisers, under training for flat minima.

Jiang et al. 2024 (arXiv 2412.05551). In sharpness-aware training of a quantised network, the paper says, the
gradients of the task and of flatness pull some scales apart; where the sign of the task's gradient seldom
changes it is frozen, and the network is better on domains that it has not seen. A small convolutional network
with scales learned at 3 bits (LSQ; the first and the last layer in full precision) learns two of the three
digit sets MNIST, MNIST-M and USPS, grey and 16 pixels a side, 1,000 images each, and is tested on the third,
MNIST-M or USPS.

The flatness gradient is that of the loss at theta + (rho / |g| - alpha) g, g the task's gradient and alpha
0.001, and the step of Adam takes the mean of both, as in SAGM. Each method is tuned over eight settings by
accuracy on validation images of the two domains it learns, on a seed that is not reported. The window is 20
of 240 steps.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from statistics import mean

import numpy as np
import torch
from _experiment import Claim, Table, Verdict, interval, run, spread, verdict
from _lsq import Quantised
from _pictures import Pictures, accuracy, load
from torch import Tensor, nn
from torch.nn import functional

from equipoise.aggregation import GradientFreezing
from equipoise.core.step import Step

RECORDED: dict[str, Verdict] = {
    "freezing": "inconclusive",
    "quantised": "inconclusive",
    "conflict": "fails",
}
TUNING = 1000  # seeds from here on are for tuning
DOMAINS = ("mnist", "mnist_m", "usps")
UNSEEN = ("mnist_m", "usps")
SIDES = ("task", "flat")
ALPHA = 0.001
GRID = {
    "QAT": [(float(rate), 0.0, 0.0) for rate in np.geomspace(1e-3, 2e-2, 8)],
    "flat QAT": list(product((2e-3, 5e-3, 1e-2, 2e-2), (0.05, 0.2), (0.0,))),
    "flat QAT, freezing": list(product((5e-3, 1e-2), (0.05, 0.2), (0.35, 0.45))),
}


@dataclass(frozen=True)
class Outcome:
    """Accuracies in per cent; by scale, disorder of the task's gradient and its sign products with
    the flatness gradient and with what that has beyond the task's."""

    validation: float
    test: float
    disorder: dict[str, float]
    agreement: dict[str, float]
    gap: dict[str, float]
    frozen: float


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        Quantised(nn.Conv2d(8, 16, 3, stride=2, padding=1), 3),
        nn.ReLU(),
        nn.Flatten(),
        Quantised(nn.Linear(256, 64), 3),
        nn.ReLU(),
        Quantised(nn.Linear(64, 64), 3),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def is_scale(name: str) -> bool:
    return name.endswith("_scale")


def train(
    setting: tuple[float, float, float],
    seed: int,
    steps: int,
    given: dict[str, tuple[Pictures, Pictures]],
    out: str,
) -> Outcome:
    rate, rho, threshold = setting
    learned = [domain for domain in given if domain != out]
    torch.manual_seed(seed)
    model = network()
    dealt = {domain: given[domain][0].dealt(seed, *_sizes(given[domain][0])) for domain in learned}
    model(torch.cat([dealt[domain][0].images[:64] for domain in learned]))  # the scales of inputs start here
    names, parameters = zip(*model.named_parameters(), strict=True)
    optimizer = torch.optim.Adam(parameters, lr=rate)
    window = max(steps // 12, 1)
    freezing = GradientFreezing(objective="task", blocks=is_scale, window=window, threshold=threshold)
    generator = torch.Generator().manual_seed(seed)
    signs: dict[str, list[float]] = {name: [] for name in names if is_scale(name)}
    gaps: dict[str, list[float]] = {name: [] for name in signs}
    shares: dict[str, list[float]] = {name: [] for name in signs}
    held: list[float] = []
    for step in range(steps):
        drawn = [_draw(dealt[domain][0], 32, generator) for domain in learned]
        images, labels = (torch.cat([getattr(d, part) for d in drawn]) for part in ("images", "labels"))
        loss = functional.cross_entropy(model(images), labels)
        task = torch.autograd.grad(loss, parameters)
        flat = _flat(model, parameters, task, rho, images, labels) if rho else task
        for name, parameter, one, other in zip(names, parameters, task, flat, strict=True):
            rows = torch.stack([one.flatten(), other.flatten()])
            rows = freezing(rows, block=name, names=SIDES)
            parameter.grad = rows.mean(0).reshape(parameter.shape)
            if is_scale(name):
                signs[name].append(float(one.sign() * other.sign()))
                gaps[name].append(float(one.sign() * (other - one).sign()))
        freezing.update(Step(SIDES, torch.stack([loss, loss]).detach().double(), None))
        optimizer.step()
        if (step - 1) % window == window - 1:
            held.append(len(freezing.frozen) / len(signs))
            for name, share in freezing.disorder.items():
                shares[name].append(share)
    with torch.no_grad():
        validated = [accuracy(model(dealt[d][1].images), dealt[d][1].labels) for d in learned]
        test = given[out][1]
        return Outcome(
            mean(validated),
            accuracy(model(test.images), test.labels),
            {name: mean(found) for name, found in shares.items()} if held else {},
            {name: mean(found) for name, found in signs.items()},
            {name: mean(found) for name, found in gaps.items()},
            mean(held) if held else 0.0,
        )


def _flat(
    model: nn.Module,
    parameters: tuple[nn.Parameter, ...],
    task: tuple[Tensor, ...],
    rho: float,
    images: Tensor,
    labels: Tensor,
) -> tuple[Tensor, ...]:
    """The gradient at the disturbed point, after which the parameters are what they were."""
    kept = [parameter.detach().clone() for parameter in parameters]
    length = torch.stack([g.square().sum() for g in task]).sum().sqrt()
    with torch.no_grad():
        for parameter, gradient in zip(parameters, task, strict=True):
            parameter.add_((rho / length.clamp(min=1e-12) - ALPHA) * gradient)
    found = torch.autograd.grad(functional.cross_entropy(model(images), labels), parameters)
    with torch.no_grad():
        for parameter, old in zip(parameters, kept, strict=True):
            parameter.copy_(old)
    return found


def _sizes(pictures: Pictures) -> tuple[int, int]:
    return (1000, 500) if len(pictures) > 2000 else (500, 300)


def _draw(pictures: Pictures, count: int, generator: torch.Generator) -> Pictures:
    return pictures[torch.randint(len(pictures), (count,), generator=generator)]


def experiment(fast: bool) -> Iterator[Table | Claim]:
    steps, seeds = (12, 2) if fast else (240, 5)
    given = {d: (load(d, "train", fast=fast), load(d, "test", fast=fast)) for d in DOMAINS}
    given = {d: (train[:6000], test[:2000]) for d, (train, test) in given.items()}
    ended: dict[tuple[str, str], list[Outcome]] = {}
    rows = []
    for out, (method, grid) in product(UNSEEN, GRID.items()):
        grid = grid[::7] if fast else grid
        tried = {s: train(s, TUNING, steps, given, out).validation for s in grid}
        best = max(grid, key=lambda s: tried[s])
        found = ended[out, method] = [train(best, seed, steps, given, out) for seed in range(seeds)]
        shown = [spread([getattr(o, part) for o in found], 2) for part in ("test", "validation")]
        share = spread([100 * o.frozen for o in found], 0) if best[2] else ""
        rows.append((out, method, *shown, share, *(f"{x:.3g}" if x else "" for x in best)))
    yield Table(
        f"digits of three domains, 3 bits, {steps} steps, {seeds} seeds",
        ("unseen", "method", "unseen %", "seen %", "frozen %", "rate", "rho", "threshold"),
        rows,
        "seen: validation images of the two domains that are learned; frozen: share of scales and windows.",
    )
    scales = list(ended["usps", "flat QAT"][0].agreement)
    table = []
    for name in scales:
        cells = [
            [getattr(o, part)[name] for o in ended["usps", "flat QAT"]]
            for part in ("disorder", "agreement", "gap")
        ]
        table.append((name, *map(spread, cells)))
    yield Table(
        "the scales of flat QAT, USPS unseen",
        ("scale", "disorder of the task's gradient", "sign product with flatness", "with flatness less task"),
        table,
        "disorder: share of steps on which the sign changes; product: 1 where the two agree, -1 where not.",
    )

    def gained(other: str, out: str) -> list[float]:
        pairs = zip(ended[out, "flat QAT, freezing"], ended[out, other], strict=True)
        return [a.test - b.test for a, b in pairs]

    for key, other, claim in (
        ("freezing", "flat QAT", "Freezing is better on the unseen domain than flat training without it"),
        ("quantised", "QAT", "Freezing is better on the unseen domain than plain quantised training"),
    ):
        advantages = {f"points gained, {out} unseen:": interval(gained(other, out)) for out in UNSEEN}
        yield Claim(key, claim, *verdict(advantages))
    advantages = {}
    for out in UNSEEN:
        found = ended[out, "flat QAT"]
        lowest = [min(scales, key=lambda n: mean(p.agreement[n] for p in found if p is not o)) for o in found]
        advantages[f"minus the sign product, {out} unseen:"] = interval(
            [-o.agreement[name] for o, name in zip(found, lowest, strict=True)]
        )
    yield Claim(
        "conflict",
        "On the scale where they agree least in the other seeds, the two gradients point apart",
        *verdict(advantages),
    )


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
