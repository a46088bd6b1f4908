"""Part of sampling: samples drawn in proportion to their gradients' length, against uniform draws."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from _digit_images import Images, images
from _experiment import Claim, Table, interval, spread, verdict
from torch import nn

import equipoise
from equipoise.aggregation import ImportanceSampling

SIDE, WIDTH, BATCH, TUNING = 14, 32, 16, 1000
TRAINED_ON, JUDGED_ON, MEASURED_ON = 2000, 2000, 400
RATES = (0.05, 0.1, 0.2, 0.4, 0.8)
METHODS = ("uniform", "weighted", "unweighted")


@dataclass(frozen=True)
class Trained:
    """A model, and for each later epoch the variance of its draws as a share of that of uniform ones."""

    model: nn.Module
    shares: tuple[float, ...]


def trained(method: str, rate: float, epochs: int, seed: int, measure: bool) -> Trained:
    """Train with one sampler; after epoch e of E it trusts the lengths by e / E, as the authors' code."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))
    data = images("mnist", SIDE)["train"].some(TRAINED_ON, torch.Generator().manual_seed(seed))
    sampler = ImportanceSampling(len(data), generator=torch.Generator().manual_seed(seed))
    shares = []
    for epoch in range(epochs):
        for _ in range(len(data) // BATCH):
            drawn = sampler.draw(BATCH)
            logits = model(data.x[drawn.indices])
            losses = nn.functional.cross_entropy(logits, data.y[drawn.indices], reduction="none")
            if method == "weighted":
                losses = losses * drawn.weights.float()
            model.zero_grad()
            losses.mean().backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= rate * parameter.grad
            sampler.observe(drawn.indices, sampler.last_layer(logits, data.y[drawn.indices]).nan_to_num(0.0))
        if epoch < epochs - 1 and method != "uniform":
            sampler.refresh(epoch / epochs)
            if measure:
                shares.append(share(model, sampler, data))
    return Trained(model, tuple(shares))


def share(model: nn.Module, sampler: ImportanceSampling, data: Images) -> float:
    """The variance of a weighted draw under the present probabilities over that of a uniform one.

    Both are exact over the first MEASURED_ON samples, among which the probabilities are scaled to sum 1.
    """
    part = torch.arange(MEASURED_ON)
    bundle = equipoise.sample_gradients(model, nn.functional.cross_entropy, data.x[part], data.y[part])
    gramian = bundle.gramian()
    even, present = ImportanceSampling(MEASURED_ON), ImportanceSampling(MEASURED_ON)
    present.observe(part, sampler.probabilities[part])
    present.refresh(1.0)
    return present.variance(gramian) / even.variance(gramian)


@torch.no_grad()
def judged(model: nn.Module, seed: int, part: str) -> tuple[float, float]:
    """Loss and accuracy on images never trained on."""
    held = images("mnist", SIDE)[part].some(JUDGED_ON, torch.Generator().manual_seed(seed))
    logits = model(held.x)
    loss = float(nn.functional.cross_entropy(logits, held.y))
    return (loss if loss == loss else float("inf")), float((logits.argmax(1) == held.y).double().mean())


def importance(fast: bool) -> Iterator[Table | Claim]:
    epochs, seeds, tuning = (2, 2, 1) if fast else (10, 10, 2)
    rates = RATES[2:4] if fast else RATES
    rows, found = [], {}
    for method in METHODS:
        scores = dict.fromkeys(rates, 0.0)
        for rate, seed in product(rates, range(TUNING, TUNING + tuning)):
            scores[rate] += judged(trained(method, rate, epochs, seed, False).model, seed, "validation")[1]
        best = max(rates, key=lambda rate: scores[rate])
        runs = [trained(method, best, epochs, seed, True) for seed in range(seeds)]
        results = [judged(one.model, seed, "test") for seed, one in enumerate(runs)]
        found[method] = runs, [accuracy for _, accuracy in results]
        variance = [sum(one.shares) / len(one.shares) for one in runs] if runs[0].shares else [1.0]
        columns = ([loss for loss, _ in results], found[method][1], variance)
        rows.append((method, *(spread(values) for values in columns), best))
    yield Table(
        f"MNIST, {TRAINED_ON} images, {epochs} epochs of batches of {BATCH}, {seeds} seeds",
        ("draws", "test loss", "test accuracy", "variance", "rate"),
        rows,
        "variance: of the weighted draws, as a share of that of uniform ones at the same model, mean of the "
        "epochs after the first. Each method has the rate of its own best accuracy on validation images.",
    )
    shares = [1 - sum(one.shares) / len(one.shares) for one in found["weighted"][0]]
    yield Claim(
        "variance",
        "Draws in proportion to gradient length have less variance than uniform ones, weights included",
        *verdict({"share of the variance saved": interval(shares)}),
    )
    for key, method, how in (
        ("accuracy", "unweighted", "without weights, as the authors' code trains"),
        ("accuracy-weighted", "weighted", "with weights, which keep the mean"),
    ):
        pairs = zip(found[method][1], found["uniform"][1], strict=True)
        yield Claim(
            key,
            f"At equal steps, draws by length ({how}) give a better test accuracy than uniform ones",
            *verdict({"accuracy gained": interval([ours - theirs for ours, theirs in pairs])}),
        )
