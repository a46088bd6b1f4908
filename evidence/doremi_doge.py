"""DoReMi and DoGE: ratios of families of languages that a small model learns as it trains.

Xie, Pham, Dong, Du, Liu, Lu, Liang, Le, Ma and Yu 2023, arXiv 2305.10429 (DoReMi); Fan, Pagliardini and Jaggi
2024, arXiv 2310.15393 (DoGE). A pre-norm transformer of one layer, width 64 and four heads foretells bytes of
four families of four languages each ($EQUIPOISE_DATA/text_cv40). Every run has 400 steps on 32 windows of 64
bytes; AdamW at 5e-3, the best of three rates in earlier runs of this model on equal ratios, constant after
ten steps. DoReMi trains a reference on equal ratios, then a proxy whose losses are weighted; DoGE has a proxy
alone, and its scores from the Gramian that `backward` gives back. eta, eps and mu are the papers'. Then the
same model is trained on examples in the ratios that either gave on average, on equal ones, and in proportion
to the sizes of the texts. Claims, over seeds:

(a) Over the last tenth of the steps no average ratio moves by .01, for both.
(b) Trained on the average ratios, the mean of the families' validation losses is above that of equal ratios
    by one standard deviation over the latter's seeds at most, for both.
(c) DoGE's scores from the Gramian are those from explicit gradients, to 1e-6 of the largest.
(d) At no step are the ratios as uneven as one and a half families (the exponential of their entropy).

(c) is seen with the model in double precision at the start of and through a run; the table has single
precision beside it. The papers' models are larger by a thousand and more, and their sources less alike.
"""

import copy
import math
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from statistics import mean, stdev

import torch
from _byte_families import FAMILIES, drawn, judged, sizes, token_losses
from _experiment import Claim, Table, Verdict, interval, run, spread, verdict
from _lr_sweep import BytesTransformer
from _run_tables import Row, Setting, trained
from torch import Tensor, nn
from torch.optim import AdamW

from equipoise import backward
from equipoise.aggregation import Mean
from equipoise.scaling import DoGE, DoReMi, ObjectiveSampler, Schedule, Static, Temperature, Turn

RECORDED: dict[str, Verdict] = {"a": "inconclusive", "b": "inconclusive", "c": "holds", "d": "holds"}

STEPS, BATCH, CONTEXT, WIDTH, HELD = 400, 32, 64, 64, 32
RATE, WARM = 5e-3, 10
SEEDS = range(4)
CHECKS = (0, 100, 200, 399)
NAMES = tuple(FAMILIES)
DOREMI, DOGE, UNIFORM, SIZES = "DoReMi", "DoGE", "equal", "by size"
PROXIES, WAYS = (DOREMI, DOGE), (DOREMI, DOGE, UNIFORM, SIZES)


class Told(Mean):
    """The mean under the preference, with the Gramian that it does not need."""

    needs_directions = True


class Training:
    """A model, its optimizer and its draws, one step at a time."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = BytesTransformer(WIDTH, 1, CONTEXT)
        self.optimizer = AdamW(self.model.parameters(), lr=RATE, weight_decay=0.0, foreach=True)
        self.draws = torch.Generator().manual_seed(seed)

    def batch(self, turn: Turn) -> dict[str, Tensor]:
        """Windows by family; the learning rate is set too."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(turn.step)
        self.optimizer.zero_grad()
        return {name: drawn(name, CONTEXT + 1, count, self.draws) for name, count in turn.counts.items()}

    def rate(self, step: int) -> float:
        return RATE * min(1.0, (step + 1) / WARM)

    def tokens(self, turn: Turn) -> dict[str, Tensor]:
        """Take a step under the turn's weights; the losses of all bytes, as they were before it."""
        rows = self.batch(turn)
        losses = token_losses(self.model, torch.cat(list(rows.values())))
        parts = dict(zip(rows, losses.split([len(one) * CONTEXT for one in rows.values()]), strict=True))
        sum(turn.weights[name] * part.sum() / len(losses) for name, part in parts.items()).backward()  # pyright: ignore[reportAttributeAccessIssue]
        self.optimizer.step()
        return {name: part.detach() for name, part in parts.items()}


def on(schedule: Schedule, seed: int, steps: int = STEPS) -> nn.Module:
    """A model trained on examples in a schedule's ratios."""
    training = Training(seed)
    for turn in ObjectiveSampler(schedule, batch=BATCH, steps=steps):
        training.tokens(turn)
    return training.model


@cache
def reference(seed: int) -> nn.Module:
    return on(Static(dict.fromkeys(NAMES, 1.0)), seed)


def doremi(sampler: ObjectiveSampler, reference: nn.Module, seed: int) -> Iterator[Mapping[str, float]]:
    """Train the proxy; what is gathered at each step."""
    assert isinstance(sampler.schedule, DoReMi)
    training = Training(seed)
    again = torch.Generator().manual_seed(seed)
    for turn in sampler:
        losses = training.tokens(turn)
        excess = {}
        with torch.no_grad():
            for name, count in turn.counts.items():
                rows = drawn(name, CONTEXT + 1, count, again)
                excess[name] = losses[name] - token_losses(reference, rows)
        sampler.schedule.observe(excess)
        yield {}


def doge(sampler: ObjectiveSampler, seed: int) -> Iterator[Mapping[str, float]]:
    """Train the proxy; at some steps, how far scores are from those of explicit gradients."""
    schedule = sampler.schedule
    assert isinstance(schedule, DoGE)
    training = Training(seed)
    for turn in sampler:
        rows, lr = training.batch(turn), training.rate(turn.step)
        seen = {}
        if turn.step in CHECKS:
            double = copy.deepcopy(training.model).double()
            seen["double"] = apart(double, rows, schedule, lr)
            seen["single"] = apart(training.model, rows, schedule, lr)
            training.optimizer.zero_grad()
        losses = {name: token_losses(training.model, part).mean() for name, part in rows.items()}
        step = backward(losses, Told(), preference=turn.p)
        training.optimizer.step()
        assert step.gramian is not None
        schedule.observe(step.gramian, lr=lr)
        yield seen


def apart(model: nn.Module, rows: Mapping[str, Tensor], schedule: DoGE, lr: float) -> float:
    """By how much of the largest score the Gramian's scores differ from those written out."""
    losses = {name: token_losses(model, part).mean() for name, part in rows.items()}
    parameters = list(model.parameters())
    flat = [
        torch.cat([g.flatten() for g in torch.autograd.grad(one, parameters, retain_graph=True)])
        for one in losses.values()
    ]
    norm = mean(float(one.norm()) for one in flat)
    scores = [lr * sum(float(a @ b) for b in flat if b is not a) / norm for a in flat]
    step = backward(losses, Told())
    assert step.gramian is not None
    found = schedule.scores(step.gramian, lr=lr)
    return max(abs(a - b) for a, b in zip(found, scores, strict=True)) / max(map(abs, scores))


def proxy(setting: Setting, steps: int = STEPS) -> list[dict[str, float]]:
    """One proxy: the ratios on average, what has become of them, and the check of scores."""
    way, seed = setting["way"], int(setting["seed"])
    schedule = DoReMi(NAMES) if way == DOREMI else DoGE(NAMES)
    sampler = ObjectiveSampler(schedule, batch=BATCH, steps=steps, mode="weight")
    least, seen = float(len(NAMES)), {"double": 0.0, "single": 0.0}
    if way == DOREMI:
        course = doremi(sampler, reference(seed) if steps == STEPS else Training(seed).model, seed)
    else:
        course = doge(sampler, seed)
    for found in course:
        p = schedule.ratios(sampler.step)
        least = min(least, math.exp(-sum(x * math.log(x) for x in p.tolist() if x > 0)))
        seen = {name: max(value, found.get(name, 0.0)) for name, value in seen.items()}
    health = sampler.health()
    return [{**health.average, "drift": max(health.drift.values()), "least": least, **seen}]


def final(setting: Setting) -> list[dict[str, float]]:
    """Train on fixed ratios: the validation losses."""
    model = on(Static({name: float(setting["p " + name]) for name in NAMES}), int(setting["seed"]))
    return [judged(model, CONTEXT + 1, HELD)]


def experiment(fast: bool) -> Iterator[Table | Claim]:
    if fast:
        proxy({"way": DOREMI, "seed": 0}, 3)
        proxy({"way": DOGE, "seed": 0}, 3)
    learned = trained(
        "doremi_doge_proxies", [{"way": w, "seed": s} for w in PROXIES for s in SEEDS], proxy, fast=fast
    )
    by_size = Temperature(sizes(), T=1.0).ratios(0).tolist()
    fixed = {UNIFORM: [1 / len(NAMES)] * len(NAMES), SIZES: by_size}
    settings = []
    for way in WAYS:
        for seed in SEEDS:
            p = fixed.get(way) or [float(x) for x in values_of(learned, way, seed)]
            named = {"p " + name: round(x, 5) for name, x in zip(NAMES, p, strict=True)}
            settings.append({"way": way, "seed": seed, **named})
    rows = trained("doremi_doge", settings, final, fast=fast)
    losses = {way: [mean(float(r[n]) for n in NAMES) for r in rows if r["way"] == way] for way in WAYS}
    yield Table(
        f"Ratios, and validation losses in nats a byte, {len(SEEDS)} seeds",
        ("", *NAMES, "mean loss", *(f"{name} loss" for name in NAMES)),
        [
            (
                way,
                *(spread([float(r["p " + n]) for r in rows if r["way"] == way]) for n in NAMES),
                spread(losses[way], 4),
                *(spread([float(r[n]) for r in rows if r["way"] == way]) for n in NAMES),
            )
            for way in WAYS
        ],
    )
    of = {way: [r for r in learned if r["way"] == way] for way in PROXIES}
    yield Table(
        "The proxies",
        ("", "drift in the last tenth", "least effective number", "scores apart, double", "single"),
        [
            (
                way,
                spread([float(r["drift"]) for r in of[way]], 4),
                spread([float(r["least"]) for r in of[way]], 2),
                *(
                    max(float(r[kind]) for r in of[way]) if way == DOGE else "-"
                    for kind in ("double", "single")
                ),
            )
            for way in PROXIES
        ],
    )
    noise = stdev(losses[UNIFORM])
    spare = {
        way: [u + noise - x for u, x in zip(losses[UNIFORM], losses[way], strict=True)] for way in PROXIES
    }
    digits = [-6 - math.log10(max(float(r["double"]), 1e-18)) for r in of[DOGE]]
    for key, claim, found in (
        (
            "a",
            "No average ratio moves by .01 in the last tenth",
            {f"{way}, spare": [0.01 - float(r["drift"]) for r in of[way]] for way in PROXIES},
        ),
        (
            "b",
            "The mean loss is above that of equal ratios by one standard deviation at most",
            {f"{way}, nats to spare": spare[way] for way in PROXIES},
        ),
        (
            "c",
            "Scores from the Gramian are those from explicit gradients, to 1e-6",
            {"decimal places more": digits},
        ),
        (
            "d",
            "At no step are the ratios as uneven as 1.5 families",
            {f"{way}, beyond 1.5": [float(r["least"]) - 1.5 for r in of[way]] for way in PROXIES},
        ),
    ):
        yield Claim(key, claim, *verdict({name: interval(values) for name, values in found.items()}))


def values_of(learned: list[Row], way: str, seed: int) -> list[float]:
    """The average ratios of a proxy."""
    row = next(r for r in learned if r["way"] == way and r["seed"] == seed)
    return [float(row[name]) for name in NAMES]


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
