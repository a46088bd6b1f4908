"""Small-scale proxies of training instabilities: how much a loss depends on the learning rate.

Wortsman, Liu, Xiao, Everett and others 2023, arXiv 2309.14322. A pre-norm transformer of two layers, width 64
and four heads foretells bytes of English ($EQUIPOISE_DATA/text_cv40); AdamW, 150 steps on 32 windows of 64
bytes, a tenth of them to warm up, then a cosine, gradients of norm 1 at most. Seven learning rates from 3e-4
to 0.3, three seeds; with a layer norm on queries and keys, with 1e-4 times the squared logarithm of the
softmax's sum added to the loss (z-loss), with both, or neither. The sensitivity to the learning rate is the
mean, over the rates, of the lesser of the final loss and that at the start, less the best final loss. Claims:

(a) The norm on queries and keys lowers the sensitivity by a factor of two or more.
(b) The z-loss lowers it.

Losses are of validation text; nothing is chosen by them. Intervals are over seeds, in pairs with the same
batches. The paper's models are larger by factors of a hundred and more, and train for far longer. Here the
lowest rate, too low for 150 steps, makes a third of the sensitivity, and no remedy is meant for that.
"""

import math
import sys
from collections.abc import Iterator

import numpy as np
import torch
from _experiment import Claim, Table, Verdict, interval, run, spread, verdict
from _lr_sweep import BytesTransformer, Course, judged
from _run_tables import Row, Setting, trained

RECORDED: dict[str, Verdict] = {"a": "fails", "b": "inconclusive"}

RATES = tuple(3e-4 * 10 ** (k / 2) for k in range(7))
SEEDS = range(3)
STEPS, BATCH, CONTEXT, HELD = 150, 32, 64, 256
WIDTH, LAYERS, Z = 64, 2, 1e-4
NEITHER, QK, ZLOSS, BOTH = "neither", "qk-norm", "z-loss", "both"
WAYS = (NEITHER, QK, ZLOSS, BOTH)


def train(setting: Setting) -> list[dict[str, float | int]]:
    """One run: the loss at the start and at the end, and whether that was finite."""
    way, seed = setting["way"], int(setting["seed"])
    torch.manual_seed(seed)
    model = BytesTransformer(WIDTH, LAYERS, CONTEXT, normed=way in (QK, BOTH))
    start = judged(model, "valid", CONTEXT, HELD)
    course = Course(float(setting["rate"]), STEPS, BATCH, CONTEXT, seed, z=Z if way in (ZLOSS, BOTH) else 0.0)
    course.train(model)
    end = judged(model, "valid", CONTEXT, HELD)
    return [{"start": start, "end": end if math.isfinite(end) else start, "finite": int(math.isfinite(end))}]


def sensitivity(rows: list[Row]) -> float:
    """The mean rise over the best loss, of one way and seed at all rates."""
    ends = np.array([min(float(row["end"]), float(row["start"])) for row in rows])
    return float((ends - ends.min()).mean())


def experiment(fast: bool) -> Iterator[Table | Claim]:
    settings = [{"way": way, "seed": seed, "rate": rate} for way in WAYS for seed in SEEDS for rate in RATES]
    if fast:
        mechanics()
    rows = trained("instability_proxies", settings, train, fast=fast)
    found = {
        way: [sensitivity([r for r in rows if r["way"] == way and r["seed"] == seed]) for seed in SEEDS]
        for way in WAYS
    }
    yield Table(
        "Loss in nats a byte by learning rate, and the sensitivity to it",
        ("", *(f"{rate:.2g}" for rate in RATES), "sensitivity"),
        [
            (
                way,
                *(
                    spread([float(r["end"]) for r in rows if r["way"] == way and same(r["rate"], rate)])
                    for rate in RATES
                ),
                spread(found[way]),
            )
            for way in WAYS
        ],
        f"Mean and standard deviation over three seeds; the start is at {mean_of(rows, 'start'):.2f}. "
        f"Not finite: {sum(1 - int(row['finite']) for row in rows)} of {len(rows)} runs.",
    )
    halved = [plain / 2 - normed for plain, normed in zip(found[NEITHER], found[QK], strict=True)]
    lowered = [plain - z for plain, z in zip(found[NEITHER], found[ZLOSS], strict=True)]
    yield Claim(
        "a",
        "The norm on queries and keys halves the sensitivity",
        *verdict({"nats below half": interval(halved)}),
    )
    yield Claim("b", "The z-loss lowers the sensitivity", *verdict({"nats": interval(lowered)}))


def same(found: str | int | float, rate: float) -> bool:
    return math.isclose(float(found), rate, rel_tol=1e-4)


def mean_of(rows: list[Row], name: str) -> float:
    return float(np.mean([float(row[name]) for row in rows]))


def mechanics() -> None:
    """A few steps of the largest rate, with both."""
    model = BytesTransformer(WIDTH, LAYERS, CONTEXT, normed=True)
    Course(RATES[-1], 5, BATCH, CONTEXT, 0, z=Z).train(model)
    judged(model, "valid", CONTEXT, HELD)


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
