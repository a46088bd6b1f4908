"""What fits of scaling laws cost: Chinchilla's beside a grid of L-BFGS-B, its refits, and effective data.

The points of Chinchilla and the runs of RegMix are read from $EQUIPOISE_DATA/scaling_runs; without them
nothing is measured. Seconds are medians on one thread.
"""

import argparse
import csv
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from benchmarks.record import about, record
from benchmarks.sidebyside import in_turns
from scipy.optimize import minimize
from scipy.special import logsumexp

from equipoise.problems.data import MissingData, find
from equipoise.scaling import Chinchilla, EffectiveData, ObjectiveSampler, Runs, Static
from equipoise.scaling.form import grid
from equipoise.scaling.levenberg import huber

LEAST = 1.018274017800599e-3
"""The least objective of the 240 points, as found before by a grid of exponents and one of amplitudes."""
DELTA, HIGHEST, NEAR, REFITS = 1e-3, 5, 1e-3, 400
AXES = (
    np.arange(0.0, 30.0, 5.0),
    np.arange(0.0, 30.0, 5.0),
    np.arange(-1.0, 1.5, 0.5),
    np.arange(0.0, 2.5, 0.5),
    np.arange(0.0, 2.5, 0.5),
)
"""Starts of log A, log B, log E, alpha and beta in the paper: 4,500."""


def main() -> None:
    """Measure, record, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7, help="times for each figure")
    parser.add_argument("--starts", type=int, default=4500, help="starts of L-BFGS-B, of 4500")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        points, mixtures = chinchilla_points(), regmix_runs()
    except MissingData as missing:
        print(f"nothing measured: {missing}")
        return
    tables = [
        chinchilla_table(points, options.turns, options.starts),
        refits_table(points, options.turns),
        effective_table(mixtures, options.turns),
        sampler_table(options.turns),
    ]
    print(record("scaling", {"about": about(), "tables": tables}))


def chinchilla_points() -> Runs:
    """The 240 points below the fifth highest loss."""
    header, values = columns("chinchilla_svg_extracted.csv", ("Model Size", "Training FLOP", "loss"))
    size, compute, loss = (values[:, header.index(name)] for name in header)
    keep = loss < np.sort(loss)[-HIGHEST]
    return Runs({"N": size[keep], "D": (compute / (6 * size))[keep], "loss": loss[keep]})


def regmix_runs() -> Runs:
    """512 mixtures of 17 sources, 13 losses."""
    sources, p = columns("regmix_train_mixture_1m.csv")
    losses, values = columns("regmix_train_pile_loss_1m.csv")
    return Runs(
        {f"p.{name}": p[:, i] for i, name in enumerate(sources) if i}
        | {f"loss.{name}": values[:, i] for i, name in enumerate(losses) if i}
    )


def columns(file: str, names: tuple[str, ...] | None = None) -> tuple[list[str], np.ndarray]:
    """Columns of a published table and their names."""
    path = find("scaling_runs", file, download=None)
    assert path is not None
    with path.open(encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines)
    chosen = list(names or header)
    places = [header.index(name) for name in chosen]
    return chosen, np.array([[float(row[i]) for i in places] for row in rows])


def chinchilla_table(points: Runs, turns: int, starts: int) -> dict:
    """One fit of ours, and L-BFGS-B from the grid, once."""
    ours = seconds(lambda: Chinchilla().fit(points, holdout="none"), turns)
    found = objective_of(points)
    began = time.perf_counter()
    ends = from_grid(points, starts)
    theirs = time.perf_counter() - began
    reached = int((ends <= LEAST * (1 + NEAR)).sum())
    return {
        "title": f"Chinchilla's law, 5 numbers on {len(points)} points",
        "columns": ["", "seconds", "objective above the least, relative", "starts within 0.1% of it"],
        "rows": [
            ["Chinchilla().fit", goal(ours, 0.2), f"{found / LEAST - 1:.0e}", ""],
            [
                f"L-BFGS-B from {starts} starts",
                f"{theirs:.1f}",
                f"{ends.min() / LEAST - 1:.0e}",
                f"{reached} of {starts}",
            ],
            ["ratio", f"{theirs / ours:.0f}", "", ""],
        ],
        "note": "SciPy's with its default settings and exact gradients of the sum of Huber losses, from the "
        "grid of the paper, once. Goal in square brackets.",
    }


def objective_of(points: Runs) -> float:
    """What our fit comes to."""
    return float(Chinchilla().fit(points, holdout="none").singles["loss"].plain()["objective"])


def from_grid(points: Runs, count: int) -> np.ndarray:  # -> (count,)
    """The objective at the end from each start of the grid, evenly taken where not from all."""
    x, y = points.features, np.log(points.loss("loss"))
    logs = -np.stack([np.log(x.need("N", "")), np.log(x.need("D", "")), np.zeros_like(y)])

    def objective(u: np.ndarray) -> tuple[float, np.ndarray]:
        terms = u[:3, None] + np.array([u[3], u[4], 0.0])[:, None] * logs
        total = logsumexp(terms, axis=0)
        pull = np.clip(total - y, -DELTA, DELTA) * np.exp(terms - total)
        gradient = np.concatenate([pull.sum(1), (pull[:2] * logs[:2]).sum(1)])
        return float(huber(total - y, DELTA).sum()), gradient

    starts = grid(*AXES)
    rows = np.linspace(0, len(starts) - 1, count).astype(int)
    return np.array([minimize(objective, start, jac=True, method="L-BFGS-B").fun for start in starts[rows]])


def refits_table(points: Runs, turns: int) -> dict:
    """Intervals from resampled runs."""
    taken = seconds(lambda: Chinchilla().fit(points, holdout="none", bootstrap=REFITS), max(3, turns // 2))
    return {
        "title": "Chinchilla's law with intervals",
        "columns": ["", "seconds"],
        "rows": [[f"the fit and {REFITS} refits to resampled runs", goal(taken, 5)]],
        "note": "All refits are followed together from the fit. Goal in square brackets.",
    }


def effective_table(runs: Runs, turns: int) -> dict:
    """The effective-data law on RegMix's runs."""
    one = runs.take(np.arange(len(runs)))
    one.objectives, one.losses = one.objectives[:1], one.losses[:, :1]
    alone = seconds(lambda: EffectiveData().fit(one, holdout="none"), turns)
    whole = seconds(lambda: EffectiveData().fit(runs, holdout="none"), max(3, turns // 3))
    return {
        "title": f"The effective-data law on {len(runs)} runs of {len(runs.sources)} sources",
        "columns": ["", "seconds"],
        "rows": [["one loss", f"{alone:.2f}"], [f"{len(runs.objectives)} losses", goal(whole, 2)]],
        "note": "Each loss has 19 numbers of its own. Goal in square brackets.",
    }


def sampler_table(turns: int) -> dict:
    """What a turn of a sampler takes of a training step of a model of bytes, as small as those of the
    evidence; for larger ones it is less."""
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True, norm_first=True)
    model = torch.nn.Sequential(torch.nn.Embedding(256, 64), layer, torch.nn.Linear(64, 256))
    optimizer = torch.optim.AdamW(model.parameters())
    x, y = torch.randint(256, (2, 16, 64))

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
        optimizer.step()

    rows = []
    for m in (4, 17):
        share = np.random.default_rng(0).dirichlet(np.ones(m))
        p = {str(place): float(part) for place, part in enumerate(share)}
        cells = []
        for batch in (1, 16, 64):
            sampler = ObjectiveSampler(Static(p), batch=batch)
            taken = in_turns({"step": step, "turn": lambda sampler=sampler: next(sampler)}, 30 * turns)
            cells.append(f"{1e6 * median(taken['turn']):.0f} us, "
                         f"{100 * median(taken['turn']) / median(taken['step']):.2f}%")  # fmt: skip
        rows.append([f"{m} sources", *cells])
    return {
        "title": "A turn of the sampler, and its part of a step of an 83,000-parameter model [goal <= 1%]",
        "columns": ["", "batch of 1", "of 16", "of 64"],
        "rows": rows,
        "note": "Ratios dealt with low discrepancy; the step is on 16 windows of 64 bytes under AdamW.",
    }


def seconds(step: Callable[[], object], turns: int) -> float:
    """The median over turns, one of which goes before."""
    step()
    taken = []
    for _ in range(turns):
        began = time.perf_counter()
        step()
        taken.append(time.perf_counter() - began)
    return median(taken)


def goal(taken: float, most: float) -> str:
    """Seconds beside the goal for them."""
    return f"{taken:.2f} [<= {most:g}]"


if __name__ == "__main__":
    main()
