"""Opposing signals: the samples that large steps move most come in two groups that pull apart.

Rosenfeld and Risteski 2023 (arXiv 2311.04163). Full-batch gradient descent at a rate at which the loss
oscillates; at steps that raise the mean loss, the 20 samples whose losses rise most and the 20 whose losses
fall most are compared. Claims on trial:

(a) Their mean gradients oppose: the cosine is below zero, and below that of two random groups of 20.
(b) They are outliers: their gradients are longer than those of the average sample.
(c) They swing: in the next step the losses of those that rose fall, and of those that fell rise.

Our questions, which the paper does not put in this way:

(d) Do the groups oppose more than those that a very small step would move most, at the same point? A
    small step moves sample i by -<g_i, mean g>, so that some opposition comes from the choice alone.
(e) Does training without the 40 samples that are most often in the groups oscillate less than without 40
    random ones? By the sum of all rises of the mean loss, over the samples that are left.
(f) Is the loss less sharp without them, at step 60, before the oscillation starts? By the largest eigenvalue
    of the Hessian.

1,000 images of CIFAR-10 at 16 x 16 ($EQUIPOISE_DATA), drawn by the seed; a network of two hidden layers of
64; 400 steps at rate 0.3. `--fast` takes digits of scikit-learn and a larger rate. Nothing is tuned; the rate
is one at which the loss neither falls in every step nor diverges.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import mean

import numpy as np
import torch
from _experiment import Claim, Table, Verdict, interval, run, spread, verdict
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

import equipoise
from equipoise.core.opposing import opposing_groups
from equipoise.problems.data import find

RECORDED: dict[str, Verdict] = {
    "a": "holds",
    "b": "holds",
    "c": "holds",
    "d": "fails",
    "e": "inconclusive",
    "f": "inconclusive",
}

COUNT = 20
REMOVED = 2 * COUNT
APART = 5  # steps between two that are looked at
EARLY = 60


@dataclass(frozen=True)
class Images:
    inputs: Tensor
    labels: Tensor

    def without(self, places: list[int]) -> "Images":
        kept = torch.ones(len(self.labels), dtype=torch.bool)
        kept[places] = False
        return Images(self.inputs[kept], self.labels[kept])


def images(seed: int, fast: bool) -> Images:
    """Inputs with mean 0 and deviation 1 in every pixel, then scaled to a mean squared length of 64."""
    if fast:
        data = load_digits()
        inputs, labels, count = torch.as_tensor(data.data, dtype=torch.float32), data.target, 200
    else:
        path = find("cifar10", "cifar10_8k.npz", download=False)
        with np.load(path, allow_pickle=False) as file:
            pixels = torch.from_numpy(file["x_train"]).permute(0, 3, 1, 2).float()
            inputs, labels, count = avg_pool2d(pixels, 2).flatten(1), file["y_train"], 1000
    drawn = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))[:count]
    inputs = inputs[drawn]
    inputs = (inputs - inputs.mean(0)) / inputs.std(0).clamp(min=1e-3)
    return Images(inputs * 8 / inputs.shape[1] ** 0.5, torch.as_tensor(labels)[drawn].long())


def network(data: Images, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Linear(data.inputs.shape[1], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(*layers)


def losses_of(model: nn.Module, data: Images) -> Tensor:  # -> (n,)
    return cross_entropy(model(data.inputs), data.labels, reduction="none")


@dataclass
class Seen:
    """Means over the steps that were looked at, and what a run left behind."""

    cosine: list[float] = field(default_factory=list)
    at_random: list[float] = field(default_factory=list)
    first_order: list[float] = field(default_factory=list)
    length: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    fell_back: list[float] = field(default_factory=list)
    rose_again: list[float] = field(default_factory=list)
    members: Counter[int] = field(default_factory=Counter)
    rises: float = 0.0
    sharpness: float = 0.0
    accuracy: float = 0.0


def descend(data: Images, seed: int, steps: int, rate: float, look: bool) -> Seen:
    """Full-batch descent; with `look` the groups are found at steps that raise the mean loss."""
    model, before, seen = network(data, seed), network(data, seed), Seen()
    generator = torch.Generator().manual_seed(seed)
    losses, last, pending = losses_of(model, data), -APART, None
    for step in range(steps):
        before.load_state_dict(model.state_dict())
        if step == min(EARLY, steps - 1):
            seen.sharpness = sharpness(before, data)
        model.zero_grad()
        losses.mean().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= rate * parameter.grad
        following = losses_of(model, data)
        change = (following - losses).detach()
        seen.rises += max(float(change.mean()), 0.0)
        if pending is not None:
            rose, fell = pending
            seen.fell_back.append(-float(change[rose].mean()))
            seen.rose_again.append(float(change[fell].mean()))
            pending = None
        if look and float(change.mean()) > 0 and step - last >= APART:
            pending, last = groups(before, data, change, generator, seen), step
        losses = following
    seen.accuracy = float((model(data.inputs).argmax(1) == data.labels).float().mean())
    return seen


def groups(
    model: nn.Module, data: Images, change: Tensor, generator: torch.Generator, seen: Seen
) -> tuple[list[int], list[int]]:
    """Compare the groups that `change` tells with random ones and with those of a very small step."""
    names = [str(i) for i in range(len(change))]
    gramian = equipoise.gramian(losses_of(model, data), samples=True)
    found = opposing_groups(dict(zip(names, change, strict=True)), names, gramian, COUNT)
    rose, fell = [int(name) for name in found.rose], [int(name) for name in found.fell]
    drawn = torch.zeros(len(change))
    order = torch.randperm(len(change), generator=generator)
    drawn[order[:COUNT]], drawn[order[-COUNT:]] = 1.0, -1.0
    lengths = gramian.diagonal().clamp(min=0).sqrt()
    seen.cosine.append(found.cosine or 0.0)
    for kept, moved in ((seen.at_random, drawn), (seen.first_order, -gramian.mean(1))):
        other = opposing_groups(dict(zip(names, moved, strict=True)), names, gramian, COUNT)
        kept.append(other.cosine or 0.0)
    seen.length.append(float(lengths[rose + fell].mean() / lengths.mean()))
    seen.share.append(found.share)
    seen.members.update(rose + fell)
    return rose, fell


def sharpness(model: nn.Module, data: Images, rounds: int = 30) -> float:
    """The largest eigenvalue of the Hessian of the mean loss, by power iteration."""
    parameters = list(model.parameters())
    slope = torch.autograd.grad(losses_of(model, data).mean(), parameters, create_graph=True)
    generator = torch.Generator().manual_seed(0)
    vector = [torch.randn(p.shape, generator=generator) for p in parameters]
    value = 0.0
    for _ in range(rounds):
        norm = sum(float(v.square().sum()) for v in vector) ** 0.5
        vector = [v / norm for v in vector]
        product = torch.autograd.grad(slope, parameters, vector, retain_graph=True)
        value = sum(float((p * v).sum()) for p, v in zip(product, vector, strict=True))
        vector = list(product)
    return value


def experiment(fast: bool) -> Iterator[Table | Claim]:
    steps, seeds, rate = (80, range(2), 1.5) if fast else (400, range(5), 0.3)
    whole, chosen, random = [], [], []
    for seed in seeds:
        data = images(seed, fast)
        found = descend(data, seed, steps, rate, look=True)
        most = [place for place, _ in found.members.most_common(REMOVED)]
        drawn = torch.randperm(len(data.labels), generator=torch.Generator().manual_seed(seed + 100))
        whole.append(found)
        chosen.append(descend(data.without(most), seed, steps, rate, look=False))
        random.append(descend(data.without(drawn[: len(most)].tolist()), seed, steps, rate, look=False))
    yield Table(
        f"groups of {COUNT} at steps that raise the mean loss ({len(seeds)} seeds)",
        ("", "mean ± deviation over seeds"),
        [
            ("steps looked at", spread([len(one.cosine) for one in whole], 1)),
            ("cosine of the groups", spread([mean(one.cosine) for one in whole])),
            ("cosine of random groups", spread([mean(one.at_random) for one in whole])),
            ("cosine of groups by a very small step", spread([mean(one.first_order) for one in whole])),
            ("length of their gradients over the mean", spread([mean(one.length) for one in whole])),
            ("their share of all changes of loss", spread([mean(one.share) for one in whole])),
            ("next step, loss of those that rose", spread([-mean(one.fell_back) for one in whole])),
            ("next step, loss of those that fell", spread([mean(one.rose_again) for one in whole])),
        ],
    )
    yield Table(
        f"training anew without {REMOVED} samples",
        ("samples left out", "sum of rises of the mean loss", f"sharpness at step {EARLY}", "learnt"),
        [
            (
                name,
                spread([one.rises for one in runs]),
                spread([one.sharpness for one in runs]),
                spread([one.accuracy for one in runs]),
            )
            for name, runs in (
                ("none", whole),
                ("those most often in the groups", chosen),
                ("random", random),
            )
        ],
        f"oscillation starts at a sharpness of {2 / rate:.2f}",
    )
    yield Claim(
        "a",
        "the mean gradients of the groups oppose, and more than those of random groups",
        *verdict(
            {
                "cosine below zero": interval([-mean(one.cosine) for one in whole]),
                "below random groups": interval([mean(one.at_random) - mean(one.cosine) for one in whole]),
            }
        ),
    )
    yield Claim(
        "b",
        "gradients of the groups are longer than those of the average sample",
        *verdict({"ratio less one": interval([mean(one.length) - 1 for one in whole])}),
    )
    yield Claim(
        "c",
        "in the next step those that rose fall and those that fell rise",
        *verdict(
            {
                "fall of those that rose": interval([mean(one.fell_back) for one in whole]),
                "rise of those that fell": interval([mean(one.rose_again) for one in whole]),
            }
        ),
    )
    yield Claim(
        "d",
        "the groups oppose more than those that a very small step moves most",
        *verdict({"cosines apart": interval([mean(one.first_order) - mean(one.cosine) for one in whole])}),
    )
    yield Claim(
        "e",
        "training without them oscillates less than without random samples",
        *verdict({"rises saved": interval([b.rises - a.rises for a, b in zip(chosen, random, strict=True)])}),
    )
    yield Claim(
        "f",
        f"without them the loss is less sharp at step {EARLY} than without random samples",
        *verdict(
            {
                "sharpness saved": interval(
                    [b.sharpness - a.sharpness for a, b in zip(chosen, random, strict=True)]
                )
            }
        ),
    )


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
