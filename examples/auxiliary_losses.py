"""Auxiliary losses: a ResNet learns to name photographs, with two more heads that are there to help.

One head names the picture from features half-way up, the other tells how far the picture was turned. Only the
first loss counts in the end; the others may help it or get in its way. A rule with a primary objective
lets them have what is not against it.

What to look at: the main head alone, the mean of all three, and three rules that know which one counts.

    EQUIPOISE_DATA=... python examples/auxiliary_losses.py
"""

from collections.abc import Callable, Mapping
from statistics import mean

import numpy as np
import torch
from _gallery import dots, figure, finish, parser, spread
from torch import Tensor, nn
from torch.nn import functional

import equipoise
from equipoise.aggregation import GEM, PCD, Mean, OrthogonalUpdate
from equipoise.core.rule import Rule
from equipoise.problems.data import find

SEEDS, TRAIN, TEST, EPOCHS, BATCH, RATE = 2, 1200, 1000, 5, 64, 0.004
WAYS: Mapping[str, tuple[tuple[str, ...], Callable[[], Rule]]] = {
    "main head alone": (("name",), Mean),
    "mean of three": (("name", "early", "turned"), Mean),
    "GEM": (("name", "early", "turned"), lambda: GEM(primary="name", margin=0.0)),
    "PCD": (("name", "early", "turned"), lambda: PCD(primary="name")),
    "OrthogonalUpdate": (("name", "early", "turned"), lambda: OrthogonalUpdate(primary="name")),
}


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.GroupNorm(4, outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.GroupNorm(4, outputs),
        )
        self.around = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) + self.around(x)).relu()


class ResNet(nn.Module):
    """Images (n, 3, 16, 16) -> features half-way up, and at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), Block(16, 16, 1))
        self.high = nn.Sequential(Block(16, 32, 2), Block(32, 64, 2))
        self.heads = nn.ModuleDict(
            {"name": nn.Linear(64, 10), "early": nn.Linear(16, 10), "turned": nn.Linear(64, 4)}
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = self.low(x)
        return low.mean((2, 3)), self.high(low).mean((2, 3))


def photographs() -> dict[str, tuple[Tensor, Tensor]]:
    """CIFAR-10 at half its size, standardised."""
    path = find("cifar10", "cifar10_8k.npz", download=None)
    assert path is not None
    with np.load(path, allow_pickle=False) as file:
        found = {}
        for part, count in (("train", TRAIN), ("test", TEST)):
            x = torch.from_numpy(file[f"x_{part}"][:count]).permute(0, 3, 1, 2).float() / 255
            found[part] = (
                (functional.avg_pool2d(x, 2) - 0.47) / 0.22,
                torch.from_numpy(file[f"y_{part}"][:count]).long(),
            )
    return found


def losses(model: ResNet, x: Tensor, y: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Those of the heads of these names on a batch."""
    low, high = model(x)
    found = {"name": functional.cross_entropy(model.heads["name"](high), y)}
    if "early" in names:
        found["early"] = functional.cross_entropy(model.heads["early"](low), y)
        quarters = torch.arange(len(x)) % 4
        turned = torch.cat([x[quarters == q].rot90(q, (2, 3)) for q in range(4)])
        logits = model.heads["turned"](model(turned)[1])
        found["turned"] = functional.cross_entropy(logits, quarters.sort().values)
    return found


def train(way: str, seed: int, data: Mapping[str, tuple[Tensor, Tensor]]) -> float:
    """Test accuracy of the main head, in %."""
    torch.manual_seed(seed)
    names, make = WAYS[way]
    model, rule, generator = ResNet(), make(), torch.Generator().manual_seed(seed)
    x, y = data["train"]
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * -(-len(x) // BATCH))
    for _ in range(EPOCHS):
        for index in torch.randperm(len(x), generator=generator).split(BATCH):
            equipoise.backward(losses(model, x[index], y[index], names), rule, parameters=model)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    with torch.no_grad():
        x, y = data["test"]
        found = torch.cat([model.heads["name"](model(part)[1]).argmax(1) for part in x.split(250)])
        return 100 * float((found == y).double().mean())


def main() -> None:
    out = parser(__doc__).parse_args().out
    data, found = photographs(), {}
    for way in WAYS:
        found[way] = [train(way, seed, data) for seed in range(SEEDS)]
        print(f"{way:18} {spread(found[way])} %")
    best = max(found, key=lambda way: mean(found[way]))
    drawn, (plot,) = figure(height=3.4)
    dots(plot, found, best)
    plot.set_xlabel(f"test accuracy of the main head, % (each of {SEEDS} seeds, and their mean)")
    plot.set_title(f"A small ResNet on {TRAIN:,} photographs")
    said = f"{best} is best with {spread(found[best])} %"
    if best == "main head alone":
        said = f"no auxiliary loss helps: the main head alone is best with {spread(found[best])} %"
    rest = [f"{way} comes to {spread(found[way])} %" for way in list(WAYS)[:2] if way != best]
    finish(out, "auxiliary_losses", drawn, f"{said}; {', '.join(rest)}.")


if __name__ == "__main__":
    main()
