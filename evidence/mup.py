"""muP: a learning rate tuned at a small width serves a large one.

Yang, Hu, Babuschkin, Sidor, Liu, Farhi, Ryder, Pachocki, Chen and Gao 2021, arXiv 2203.03466. A network of
three layers foretells the next byte of English ($EQUIPOISE_DATA/text_cv40) from eight; Adam, 200 steps on
128 windows. Learning rates from 2^-10 to 2^-3 by half octaves, widths 32, 128 and 512, five seeds, in the
standard parametrisation (torch's own initialisation, one learning rate) and under muP from the base width 32,
where the two are alike but for biases, which start at 0. Claims:

(a) From width 32 to 512 the best learning rate moves less under muP.
(b) At width 512, with the learning rate that is best at width 32, the loss is lower under muP.
(c) Coordinates: after four steps at 0.02 the hidden layers' sizes go with the width by a power within 0.12 of
    0 under muP, and those of the logits by a lower one than in the standard parametrisation.
(d) Under muP, with the learning rate that is best at width 32, the wider is the better.

Learning rates are chosen by the loss on validation text, in (a) for each seed, between those of the sweep by
the parabola through the best and its neighbours, in (b) and (d) by the mean over seeds; losses in (b) and (d)
are of test text, and count as those of guessing where they are above. Intervals are over seeds, in pairs with
the same batches.
"""

import sys
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from _experiment import Claim, Table, Verdict, interval, run, spread, verdict
from _lr_sweep import BytesMLP, judged, windows
from _run_tables import Row, Setting, trained
from torch.nn import functional as F
from torch.optim import Adam

from equipoise.scaling import coordinate_check, plan

RECORDED: dict[str, Verdict] = {"a": "holds", "b": "holds", "c": "inconclusive", "d": "holds"}

BASE, WIDTHS, SEEDS = 32, (32, 128, 512), range(5)
EXPONENTS = tuple(k / 2 for k in range(-20, -5))
STEPS, BATCH, CONTEXT, HELD = 200, 128, 8, 4096
MUP, STANDARD = "muP", "standard"
GAIN = 3**-0.5
"""With which muP draws at the base width with the deviation that torch's layers have."""
TOLERANCE = 0.12
HIDDEN, LOGITS = ("first", "second"), "head"
PHASES = ("start", "after", "moved")


def train(setting: Setting) -> list[dict[str, float]]:
    """One run: losses on validation and test text at its end, at most that of guessing."""
    width, seed = int(setting["width"]), int(setting["seed"])
    rate = 2.0 ** float(setting["log_rate"])
    torch.manual_seed(seed)
    model = BytesMLP(width)
    if setting["way"] == MUP:
        made = plan(BytesMLP, base=BASE, width=width, gain=GAIN)
        made.multiply_(made.apply_(model))
        optimizer = Adam(made.param_groups(model, rate), lr=rate, foreach=True)
    else:
        optimizer = Adam(model.parameters(), lr=rate, foreach=True)
    draws = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        rows = windows("train", CONTEXT + 1, BATCH, draws)
        loss = F.cross_entropy(model(rows[:, :-1]), rows[:, -1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ends = {part: judged(model, part, CONTEXT, HELD) for part in ("valid", "test")}
    guessing = float(np.log(256))
    return [{part: min(end, guessing) if np.isfinite(end) else guessing for part, end in ends.items()}]


class Sweep:
    """Losses (seeds, widths, rates) of one parametrisation."""

    def __init__(self, rows: list[Row], way: str) -> None:
        shape = (len(SEEDS), len(WIDTHS), len(EXPONENTS))
        mine = [row for row in rows if row["way"] == way]
        self.valid, self.test = (
            np.array([float(row[part]) for row in mine]).reshape(shape) for part in ("valid", "test")
        )
        self.chosen = int(self.valid[:, 0].mean(0).argmin())

    @property
    def optima(self) -> np.ndarray:  # -> (seeds, widths)
        """The best exponents."""
        return np.array([[vertex(losses) for losses in seed] for seed in self.valid])

    @property
    def transferred(self) -> np.ndarray:  # -> (seeds, widths)
        """Test losses at the rate that is best at the least width."""
        return self.test[:, :, self.chosen]

    def own(self) -> np.ndarray:  # -> (seeds,)
        """Test losses of the largest width at its own best rate."""
        return self.test[:, -1, int(self.valid[:, -1].mean(0).argmin())]


def vertex(losses: np.ndarray) -> float:
    """The exponent at the least of the parabola through the best loss and its neighbours."""
    place = int(losses.argmin())
    if place in (0, len(losses) - 1):
        return EXPONENTS[place]
    before, least, after = losses[place - 1 : place + 2]
    bend = before - 2 * least + after
    shift = 0.5 * (before - after) / bend if bend > 0 else 0.0
    return EXPONENTS[place] + shift * (EXPONENTS[1] - EXPONENTS[0])


def experiment(fast: bool) -> Iterator[Table | Claim]:
    settings = [
        {"way": way, "seed": seed, "width": width, "log_rate": exponent}
        for way in (STANDARD, MUP)
        for seed in SEEDS
        for width in WIDTHS
        for exponent in EXPONENTS
    ]
    rows = trained("mup", settings, train, fast=fast)
    sweeps = {way: Sweep(rows, way) for way in (STANDARD, MUP)}
    yield Table(
        "log2 of the best learning rate, and test losses in nats a byte with the best of width 32",
        ("", *(f"log2 lr, {w}" for w in WIDTHS), "taken", *(f"loss, {w}" for w in WIDTHS), "512's own best"),
        [
            (
                way,
                *(spread(list(column), 2) for column in sweep.optima.T),
                EXPONENTS[sweep.chosen],
                *(spread(list(column)) for column in sweep.transferred.T),
                spread(list(sweep.own())),
            )
            for way, sweep in sweeps.items()
        ],
        "Mean and standard deviation over five seeds.",
    )
    moved = {way: np.abs(sweep.optima[:, -1] - sweep.optima[:, 0]) for way, sweep in sweeps.items()}
    less = interval((moved[STANDARD] - moved[MUP]).tolist())
    yield Claim("a", "The best learning rate moves less under muP", *verdict({"octaves": less}))
    lower = sweeps[STANDARD].transferred[:, -1] - sweeps[MUP].transferred[:, -1]
    yield Claim(
        "b",
        "With the small width's learning rate muP has the lower loss at 512",
        *verdict({"nats": interval(lower.tolist())}),
    )
    yield from coordinates(fast)
    ends = sweeps[MUP].transferred
    wider = {
        f"{b} against {a}, nats": interval((ends[:, i] - ends[:, i + 1]).tolist())
        for i, (a, b) in enumerate(pairwise(WIDTHS))
    }
    yield Claim("d", "Under muP the wider is the better", *verdict(wider))


def coordinates(fast: bool) -> Iterator[Table | Claim]:
    widths, seeds = ((32, 64, 128), 2) if fast else ((32, 64, 128, 256, 512, 1024), 5)
    draws = torch.Generator().manual_seed(0)
    rows = [windows("train", CONTEXT + 1, BATCH, draws) for _ in range(4)]
    checks = {
        way: coordinate_check(
            BytesMLP,
            widths,
            [(each[:, :-1], each[:, -1]) for each in rows],
            plan_base=base,
            lr=2e-2,
            seeds=seeds,
            plan_options={"gain": GAIN} if base else None,
        )
        for way, base in ((STANDARD, None), (MUP, BASE))
    }
    logs = np.log(widths) - np.mean(np.log(widths))
    each = {
        (way, phase, layer): np.log(sizes) @ logs / (logs @ logs)  # (seeds,)
        for way, check in checks.items()
        for phase in PHASES
        for layer, sizes in check.sizes[phase].items()
    }
    yield Table(
        f"Powers of the width by which mean |x| goes, widths {widths[0]} to {widths[-1]}, lr 0.02",
        ("", *(f"{layer}, {phase}" for phase in PHASES for layer in (*HIDDEN, LOGITS))),
        [
            (way, *(spread(list(each[way, phase, layer]), 2) for phase in PHASES
                    for layer in (*HIDDEN, LOGITS)))
            for way in checks
        ],
        f"At the start, after four steps, and of the change; mean and standard deviation over {seeds} seeds.",
    )  # fmt: skip
    spare = {
        f"{layer}, to spare": interval((TOLERANCE - np.abs(each[MUP, "after", layer])).tolist())
        for layer in HIDDEN
    }
    below = each[STANDARD, "after", LOGITS] - each[MUP, "after", LOGITS]
    yield Claim(
        "c",
        "Hidden layers keep their size under muP, and logits grow less",
        *verdict(spare | {"logits, standard less muP": interval(below.tolist())}),
    )


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
