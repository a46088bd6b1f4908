"""Part of sampling: one objective a step against all objectives in every step, at equal compute."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import product
from math import isfinite

import torch
from _digit_images import images
from _experiment import Claim, Table, interval, spread, verdict
from torch import Tensor, nn

import equipoise
from equipoise.core.rule import Scalarizer
from equipoise.scalarization import Alternating, Linear

SIDE, WIDTH, BATCH, TUNING = 14, 64, 32, 1000
TASKS = ("mnist", "usps", "denoise")
RATES = (0.1, 0.2, 0.5, 1.0, 2.0)
METHODS: dict[str, Callable[[int], Scalarizer]] = {
    "joint": lambda seed: Linear(),
    "drawn": lambda seed: Alternating(generator=torch.Generator().manual_seed(seed)),
    "in turns": lambda seed: Alternating(order="cyclic"),
}


class Shared(nn.Module):
    """One encoder for three tasks, each with a head and data of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(SIDE * SIDE, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()
        )
        outputs = {"mnist": 10, "usps": 10, "denoise": SIDE * SIDE}
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, size) for name, size in outputs.items()})

    def loss(self, name: str, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, target = batch
        out = self.heads[name](self.encoder(x.flatten(1)))
        if name == "denoise":  # relative to the variance of a pixel, so that 1 is the loss of knowing nothing
            return (out - target).square().mean() / target.var()
        return nn.functional.cross_entropy(out, target)


@cache
def data(seed: int, part: str, count: int) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Inputs and targets of each task; denoising is of MNIST images that the first task does not see."""
    generator = torch.Generator().manual_seed(seed)
    mnist, usps = (images(name, SIDE)[part] for name in ("mnist", "usps"))
    order = torch.randperm(len(mnist), generator=generator)
    first, second = mnist.take(order[:count]), mnist.take(order[count : 2 * count])
    other = usps.some(count, generator)
    clean = second.x.flatten(1)
    noisy = clean + 0.5 * torch.randn(clean.shape, generator=generator)
    return {"mnist": (first.x, first.y), "usps": (other.x, other.y), "denoise": (noisy, clean)}


def trained(method: str, rate: float, budget: int, seed: int) -> Shared | None:
    """Train for `budget` passes of one objective; None where that diverged."""
    torch.manual_seed(seed)
    model, rule = Shared(), METHODS[method](seed)
    train, generator = data(seed, "train", 2000), torch.Generator().manual_seed(seed)
    spent = 0
    while spent < budget:
        present = TASKS if method == "joint" else (rule.turn(TASKS),)
        losses = {}
        for name in present:
            x, target = train[name]
            picks = torch.randint(len(x), (BATCH,), generator=generator)
            losses[name] = model.loss(name, (x[picks], target[picks]))
        if not all(bool(loss.isfinite()) for loss in losses.values()):
            return None
        model.zero_grad()
        rule.update(equipoise.backward(losses, rule))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= rate * parameter.grad
        spent += len(losses)
    return model


@torch.no_grad()
def measured(model: Shared | None, seed: int, part: str) -> list[float]:
    if model is None:
        return [float("inf")] * len(TASKS)
    held = data(seed, part, 500)
    found = [float(model.loss(name, held[name])) for name in TASKS]
    return [value if isfinite(value) else float("inf") for value in found]


def alternating(fast: bool) -> Iterator[Table | Claim]:
    budget, seeds, tuning = (60, 2, 1) if fast else (3000, 10, 2)
    rates = RATES[2:4] if fast else RATES
    rows, losses = [], {}
    for method in METHODS:
        totals = dict.fromkeys(rates, 0.0)
        for rate, seed in product(rates, range(TUNING, TUNING + tuning)):
            totals[rate] += sum(measured(trained(method, rate, budget, seed), seed, "validation"))
        best = min(rates, key=lambda rate: totals[rate])
        found = [measured(trained(method, best, budget, seed), seed, "test") for seed in range(seeds)]
        losses[method] = found
        each = [spread(list(column)) for column in zip(*found, strict=True)]
        rows.append((method, *each, spread([sum(one) / len(one) for one in found]), best))
    yield Table(
        f"three tasks on one encoder, {budget} passes of one objective each, {seeds} seeds, test loss",
        ("method", *TASKS, "mean", "rate"),
        rows,
        "each method has the rate of its own lowest mean loss on validation images.",
    )

    def saved(method: str) -> list[float]:
        """The mean over tasks of the share of the joint loss that is saved, for each seed."""
        pairs = zip(losses["joint"], losses[method], strict=True)
        return [sum((a - b) / a for a, b in zip(one, two, strict=True)) / len(TASKS) for one, two in pairs]

    yield Claim(
        "alternating",
        "At equal compute, alternating between objectives ends with lower test losses than joint descent",
        *verdict({"share saved by draws": interval(saved("drawn"))}),
    )
