"""The law of continual pre-training: a new domain beside the old data, at a ratio.

Que et al. 2024, arXiv 2406.01375. Models of bytes of one layer and of two, 87 and 136 thousand parameters,
are trained on .41 MB of Germanic languages, the old data, and go on with a ratio r of Turkic ones, the new
domain ($EQUIPOISE_DATA/text_cv40), with a new optimizer. There are eight ratios from .1 to 1, and four
lengths from .08 to .33 MB. On each of three seeds the law is fitted to six of the ratios, both sizes and all
lengths together; r = .35 and r = .85 are held out. At r = 1 the old loss is not fitted. Claims:

(a) The law foretells the losses at the ratios that were held out within 1.5% on average, the old and the new.
(b) The ratio that it recommends where the old loss may rise by 3% is within .05 of the best one, at both
    sizes.

The best one is where the old loss at the end reaches that limit, on the straight line between measured
ratios. Losses are of validation text. Intervals are over seeds. The paper's models are larger by a thousand
and more.
"""

import sys
from collections.abc import Iterator
from functools import cache

import numpy as np
from _byte_models import STEP, Course, losses, parameters
from _experiment import Claim, Table, Verdict, interval, run, spread, verdict
from _run_tables import Row, Setting, columns, trained
from torch import nn

from equipoise.scaling import DCPT, EffectiveData, FamilyLaw, FittedLaw, OwnTokens, Runs, Static, optimum

RECORDED: dict[str, Verdict] = {"a": "holds", "b": "holds"}

OLD, NEW = "Germanic", "Turkic"
BOTH = (OLD, NEW)
BEFORE, ENDS = 400, (80, 128, 200, 320)
LAST = ENDS[-1] * STEP
RATIOS, HELD = (0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 0.95, 1.0), (0.35, 0.85)
LAYERS, SEEDS = (1, 2), range(3)
LAWS = {law.name: law for law in (DCPT(), FamilyLaw(), OwnTokens(), EffectiveData())}
NEAR, RISE, CLOSE = 1.5, 1.03, 0.05


@cache
def begun(layers: int, seed: int) -> nn.Module:
    """A model of the old data."""
    course = Course(Static({OLD: 1.0, NEW: 0.0}), (BEFORE,), seed, layers)
    return next(course.models())[1]


def train(setting: Setting) -> list[dict[str, float]]:
    """Go on at a ratio: both losses at each length, and the old one as it was before."""
    layers, seed, r = int(setting["layers"]), int(setting["seed"]), float(setting["r"])
    start = begun(layers, seed)
    before = losses(start, "valid", BOTH)[OLD]
    course = Course(Static({OLD: 1 - r, NEW: r}), ENDS, 100 + seed, layers, start)
    return [
        {"D": step * STEP, "before": before, **losses(model, "valid", BOTH)}
        for step, model in course.models()
    ]


def table(rows: list[Row]) -> Runs:
    """Rows as a table of runs, which tells sizes and ratios."""
    return Runs(
        columns(
            [
                {
                    "run": f"{row['layers']} {row['r']}",
                    "N": parameters(int(row["layers"])),
                    "D": row["D"],
                    f"p.{OLD}": 1 - float(row["r"]),
                    f"p.{NEW}": row["r"],
                    **{f"loss.{name}": row[name] if one > 0 else "" for name, one in own(row).items()},
                }
                for row in rows
            ]
        )
    )


def own(row: Row) -> dict[str, float]:
    return {OLD: 1 - float(row["r"]), NEW: float(row["r"])}


def errors(law: FittedLaw, held: Runs) -> dict[str, float]:
    """The mean error of each loss in per cent."""
    found = 100 * np.abs(law.predicted(held.features).losses / held.losses - 1)
    return dict(zip(held.objectives, found.mean(0).tolist(), strict=True))


def reached(rows: list[Row]) -> float:
    """The ratio at which the old loss at the end is at its limit, between those that were measured."""
    last = sorted((row for row in rows if row["D"] == LAST), key=lambda row: float(row["r"]))
    over = np.array([float(row[OLD]) - RISE * float(row["before"]) for row in last])
    if (over <= 0).all() or over[0] > 0:
        return float(last[-1 if over[0] <= 0 else 0]["r"])
    place = int(np.argmax(over > 0))
    r = [float(row["r"]) for row in last[place - 1 : place + 1]]
    return r[0] + (r[1] - r[0]) * over[place - 1] / (over[place - 1] - over[place])


def recommended(law: FittedLaw, rows: list[Row]) -> float:
    """The ratio that the law holds best for the new loss, under the limit on the old one."""
    limit = RISE * float(rows[0]["before"])
    count = parameters(int(rows[0]["layers"]))
    best = optimum(law, {NEW: 1.0, OLD: 0.0}, N=count, D=LAST, limits={OLD: limit}, refits=0)
    return best.p[NEW]


def experiment(fast: bool) -> Iterator[Table | Claim]:
    settings = [{"layers": n, "seed": s, "r": r} for s in SEEDS for n in LAYERS for r in RATIOS]
    rows = trained("dcpt", settings, train, fast=fast)
    at = {(n, s): [r for r in rows if r["layers"] == n and r["seed"] == s] for n in LAYERS for s in SEEDS}
    kept = [row for row in rows if row["r"] not in HELD]
    held = [row for row in rows if row["r"] in HELD]
    fits = {
        (name, seed): law.fit(table([row for row in kept if row["seed"] == seed]), holdout="none")
        for name, law in LAWS.items()
        for seed in SEEDS
    }
    wrong = {
        (name, seed): errors(fit, table([row for row in held if row["seed"] == seed]))
        for (name, seed), fit in fits.items()
    }
    yield Table(
        f"Validation losses after {LAST / 1e6:.2f} MB more, {len(SEEDS)} seeds",
        ("layers", "loss", "before", *(f"r = {r:g}" for r in RATIOS)),
        [
            (
                n,
                name,
                spread([float(at[n, s][0]["before"]) for s in SEEDS]) if name == OLD else "",
                *(
                    spread(
                        [float(x[name]) for s in SEEDS for x in at[n, s] if x["r"] == r and x["D"] == LAST]
                    )
                    for r in RATIOS
                ),
            )
            for n in LAYERS
            for name in BOTH
        ],
    )
    yield Table(
        f"Error in per cent at the held-out ratios {HELD}",
        ("law", "old loss", "new loss"),
        [(law, *(spread([wrong[law, s][name] for s in SEEDS], 2) for name in BOTH)) for law in LAWS],
    )
    yield Claim(
        "a",
        f"The law foretells held-out ratios within {NEAR}%",
        *verdict(
            {
                f"{what} loss, points to spare": interval([NEAR - wrong["DCPT", s][name] for s in SEEDS])
                for what, name in (("old", OLD), ("new", NEW))
            }
        ),
    )
    best = {place: reached(some) for place, some in at.items()}
    chosen = {(n, s): recommended(fits["DCPT", s], some) for (n, s), some in at.items()}
    yield Table(
        f"The ratio for an old loss of {RISE} times what it was",
        ("layers", "best", "recommended", "apart"),
        [
            (
                n,
                spread([best[n, s] for s in SEEDS]),
                spread([chosen[n, s] for s in SEEDS]),
                spread([abs(best[n, s] - chosen[n, s]) for s in SEEDS]),
            )
            for n in LAYERS
        ],
    )
    yield Claim(
        "b",
        f"The recommended ratio is within {CLOSE} of the best",
        *verdict(
            {
                f"{n} layers, to spare": interval([CLOSE - abs(best[n, s] - chosen[n, s]) for s in SEEDS])
                for n in LAYERS
            }
        ),
    )


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
