"""Languages: one small model reads four of them, byte by byte, and some are served worse.

Languages are objectives: `equipoise.by_group` makes the mean loss of each from the losses of a mixed batch,
of which one language has most. A worst-case rule, and one that none of them loses by, stand beside the mean.

What to look at: what the worst language gains, and what the large one pays for it.

    EQUIPOISE_DATA=... python examples/languages.py
"""

import gzip
import os
from collections.abc import Callable, Mapping
from math import log
from pathlib import Path
from statistics import mean

import torch
from _gallery import figure, finish, parser, spread
from torch import Tensor, nn
from torch.nn import functional

import equipoise
from equipoise.aggregation import UPGrad
from equipoise.core.rule import Rule
from equipoise.scalarization import Linear, SmoothTchebycheff

SEEDS, STEPS, LENGTH, RATE = 3, 160, 40, 5e-3
SHARES = {"en": 20, "de": 6, "tr": 4, "ka": 2}
"""Pieces of each language in a batch of 32: English has most, Georgian has an alphabet of its own."""

RULES: Mapping[str, Callable[[], Rule] | None] = {
    "mean of all pieces": None,
    "mean of languages": Linear,
    "smooth Tchebycheff": SmoothTchebycheff,
    "UPGrad": UPGrad,
}


def text(language: str, part: str) -> Tensor:  # -> (n, LENGTH)
    """Pieces of a language of text_cv40, as bytes."""
    folder = os.environ.get("EQUIPOISE_DATA")
    if folder is None:
        raise SystemExit("set EQUIPOISE_DATA to the folder that holds text_cv40")
    with gzip.open(Path(folder) / "text_cv40" / f"{language}.{part}.txt.gz", "rb") as file:
        read = torch.frombuffer(bytearray(file.read(400_000)), dtype=torch.uint8).long()
    return read[: len(read) // LENGTH * LENGTH].view(-1, LENGTH)


class Reader(nn.Module):
    """Bytes -> logits of the next byte."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(256, 32)
        self.memory = nn.GRU(32, 96, batch_first=True)
        self.head = nn.Linear(96, 256)

    def forward(self, pieces: Tensor) -> Tensor:  # (n, t) -> (n, t, 256)
        return self.head(self.memory(self.letters(pieces))[0])


def each(model: nn.Module, pieces: Tensor) -> Tensor:  # (n, t) -> (n,)
    """Bits per byte of every piece."""
    logits = model(pieces[:, :-1]).transpose(1, 2)
    return functional.cross_entropy(logits, pieces[:, 1:], reduction="none").mean(1) / log(2)


def train(make: Callable[[], Rule] | None, seed: int) -> dict[str, float]:
    """Bits per byte of each language on its test text."""
    torch.manual_seed(seed)
    corpora = {name: text(name, "train") for name in SHARES}
    groups = torch.cat([torch.full((count,), place) for place, count in enumerate(SHARES.values())])
    model, generator = Reader(), torch.Generator().manual_seed(seed)
    rule = None if make is None else make()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        batch = torch.cat(
            [
                corpora[name][torch.randint(len(corpora[name]), (count,), generator=generator)]
                for name, count in SHARES.items()
            ]
        )
        losses = each(model, batch)
        if rule is None:
            losses.mean().backward()
        else:
            equipoise.backward(equipoise.by_group(losses, groups, tuple(SHARES)), rule, parameters=model)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return {name: float(each(model, text(name, "test")[:150]).mean()) for name in SHARES}


def main() -> None:
    out = parser(__doc__).parse_args().out
    found = {}
    for name, make in RULES.items():
        found[name] = [train(make, seed) for seed in range(SEEDS)]
        print(f"{name:20}", *(f"{key} {spread([run[key] for run in found[name]], 2)}" for key in SHARES))
    drawn, (plot,) = figure(height=3.6)
    for number, (name, runs) in enumerate(found.items()):
        places = [place + 0.15 * (number - 1.5) for place in range(len(SHARES))]
        for run in runs:
            plot.plot(places, list(run.values()), ".", alpha=0.4, color=f"C{number}")
        plot.plot(
            places, [mean(run[key] for run in runs) for key in SHARES], "_", markersize=14, color=f"C{number}"
        )
        plot.plot([], [], "o", color=f"C{number}", label=name)
    plot.set_xticks(range(len(SHARES)), [f"{key}\n{count} of 32" for key, count in SHARES.items()])
    plot.set_ylabel("bits per byte on test text")
    plot.set_title(f"Four languages in one model after {STEPS} steps, {SEEDS} seeds")
    plot.legend(fontsize=8)
    bits = {name: {key: mean(run[key] for run in runs) for key in SHARES} for name, runs in found.items()}
    plain = bits["mean of all pieces"]
    worst = max(plain, key=lambda key: plain[key])
    best = min(bits, key=lambda name: bits[name][worst])
    finish(
        out,
        "languages",
        drawn,
        f"Under the mean of all pieces {worst} is served worst, {plain[worst]:.2f} bits per byte; {best} "
        f"brings it to {bits[best][worst]:.2f}, English from {plain['en']:.2f} to {bits[best]['en']:.2f}.",
    )


if __name__ == "__main__":
    main()
