"""The double power law: a family with little text gains by its ratio, and loses again where it is repeated.

Chen, Ma, Zhang, Wei and Chang 2023, arXiv 2304.03216. A transformer of one layer, 87 thousand parameters,
foretells bytes of four families of languages ($EQUIPOISE_DATA/text_cv40). There are 10 kB of the Turkic
languages, and all of the others, which have equal parts of the rest. Nine ratios from .05 to 1, three seeds;
600 steps, .61 MB, in which the family is gone through 3 to 61 times. Laws are fitted to the ratios alone,
at one length, since the law's first power knows nothing of the length; each of the seven ratios between the
ends is left out in turn. Claims:

(a) At the end the family's loss has a least point between the ratios: the ratio that is best on validation
    text, of those between the ends, has a lower loss on test text than either end.
(b) The double power law foretells the ratios that were left out within 1.5% on average.
(c) With a lower error than FamilyLaw, in which the loss falls all the way.

Intervals are over seeds. In (b) and (c) losses are of validation text at the end. The form of the law is from
memory of the paper, which is of translation, with 200 models and more.
"""

import sys
from collections.abc import Iterator

import numpy as np
from _byte_models import NAMES, STEP, Course, losses
from _experiment import Claim, Table, Verdict, interval, run, spread, verdict
from _run_tables import Row, Setting, trained

from equipoise.scaling import DoublePower, FamilyLaw, OwnTokens, Runs, Static

RECORDED: dict[str, Verdict] = {"a": "holds", "b": "holds", "c": "holds"}

POOR, CUT = "Turkic", 10_000
RATIOS, SEEDS = (0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 0.65, 0.8, 1.0), range(3)
ENDS = (150, 300, 450, 600)
LAWS = {law.name: law for law in (DoublePower(), FamilyLaw(), OwnTokens())}
LAW, NEAR = "DoublePower", 1.5


def train(setting: Setting) -> list[dict[str, float]]:
    """One run: the family's losses at each length."""
    p = float(setting["p"])
    others = [name for name in NAMES if name != POOR]
    schedule = Static({POOR: p, **dict.fromkeys(others, (1 - p) / len(others))})
    course = Course(schedule, ENDS, int(setting["seed"]), cut={POOR: CUT})
    return [
        {"D": step * STEP, **{part: losses(model, part, [POOR])[POOR] for part in ("valid", "test")}}
        for step, model in course.models()
    ]


def table(rows: list[Row]) -> Runs:
    """Ratios and losses at one length."""
    p = [float(row["p"]) for row in rows]
    return Runs(
        {
            "D": [float(row["D"]) for row in rows],
            f"p.{POOR}": p,
            "p.others": [1 - one for one in p],
            f"loss.{POOR}": [float(row["valid"]) for row in rows],
        }
    )


def left_out(name: str, rows: list[Row]) -> list[float]:
    """Errors in per cent, each ratio between the ends foretold from all the others."""
    found = []
    for out in RATIOS[1:-1]:
        law = LAWS[name].fit(table([row for row in rows if row["p"] != out]), holdout="none")
        one = table([row for row in rows if row["p"] == out])
        found.append(100 * abs(float(law.predicted(one.features).losses[0, 0] / one.losses[0, 0]) - 1))
    return found


def experiment(fast: bool) -> Iterator[Table | Claim]:
    settings = [{"p": p, "seed": seed} for seed in SEEDS for p in RATIOS]
    rows = trained("double_power", settings, train, fast=fast)
    at = {
        (end, seed): [r for r in rows if r["D"] == end * STEP and r["seed"] == seed]
        for end in ENDS
        for seed in SEEDS
    }
    yield Table(
        f"The family's validation loss, {len(SEEDS)} seeds",
        ("MB", *(f"p = {p:g}" for p in RATIOS)),
        [
            (
                f"{end * STEP / 1e6:.2f}",
                *(spread([float(at[end, s][k]["valid"]) for s in SEEDS]) for k in range(len(RATIOS))),
            )
            for end in ENDS
        ],
    )
    ends, seeds = (ENDS[-1:], SEEDS[:2]) if fast else (ENDS, SEEDS)
    wrong = {
        (name, end, seed): left_out(name, at[end, seed]) for name in LAWS for end in ends for seed in seeds
    }
    yield Table(
        "Error in per cent on ratios that were left out",
        ("law", *(f"{end * STEP / 1e6:.2f} MB" for end in ends), "largest at the end"),
        [
            (
                name,
                *(spread([float(np.mean(wrong[name, end, s])) for s in seeds], 2) for end in ends),
                max(max(wrong[name, ENDS[-1], s]) for s in seeds),
            )
            for name in LAWS
        ],
    )
    end = ENDS[-1]
    below: dict[str, list[float]] = {"the least ratio": [], "the largest": []}
    for seed in SEEDS:
        some = at[end, seed]
        best = min(some[1:-1], key=lambda row: float(row["valid"]))
        for what, other in zip(below, (some[0], some[-1]), strict=True):
            below[what].append(float(other["test"]) - float(best["test"]))
    yield Claim(
        "a",
        "The loss has a least point between the ratios",
        *verdict({f"nats below {what}": interval(found) for what, found in below.items()}),
    )
    error = {name: [float(np.mean(wrong[name, end, s])) for s in seeds] for name in LAWS}
    yield Claim(
        "b",
        f"The law foretells ratios that were left out within {NEAR}%",
        *verdict({"points to spare": interval([NEAR - one for one in error[LAW]])}),
    )
    yield Claim(
        "c",
        "With a lower error than FamilyLaw",
        *verdict({"points": interval([b - a for a, b in zip(error[LAW], error["FamilyLaw"], strict=True)])}),
    )


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
