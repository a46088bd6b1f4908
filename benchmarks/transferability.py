"""What transferability scores cost: LogME beside its published algorithm, a whole pool, features in chunks.

LogME and the published algorithm take turns on the same features, on one thread; the figure is the median of
the ratios of neighbouring turns, with their quartiles. The algorithm is re-stated from its formula: a
singular value decomposition of the Gram matrix, the left vectors of all samples, a loop over the classes.
Scores of a pool are timed in CPU seconds of this process. The memory of features in chunks is that of a
fresh process.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from benchmarks.merging import anonymous
from benchmarks.record import about, record
from benchmarks.sidebyside import in_turns, ratio, shown

from equipoise import transferability
from equipoise.core.card import cards
from equipoise.transferability import Sample, logme

Array = np.ndarray
STREAM = Path(__file__).with_name("onestream.py")
GIVEN = {"features", "labels", "probabilities"}
OTHERS = {"ETran": "a pool", "Regression": "numbers"}  # what these two score instead of one model's classes


def features(size: int, width: int, classes: int, seed: int) -> tuple[Array, Array]:
    """Features (N, D) in float32, of falling variance, and labels that they tell in part."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, size)
    spread = np.arange(1, width + 1) ** -0.75
    means = draw.standard_normal((classes, width)) * spread
    mixing = np.linalg.qr(draw.standard_normal((width, width)))[0]
    rows = (means[labels] + 1.5 * draw.standard_normal((size, width)) * spread) @ mixing + 0.5
    return np.maximum(rows, 0).astype(np.float32), labels


def published(rows: Array, labels: Array) -> float:
    """LogME as its authors' faster version computes it (You et al. 2022), where N >= D: class after class."""
    rows = rows.astype(float)
    size, width = rows.shape
    _, squares, right = np.linalg.svd(rows.T @ rows)
    kept = squares > 1e-10
    squares, right = squares[kept], right[kept]
    left = rows @ right.T / np.sqrt(squares)
    evidences = []
    for c in range(labels.max() + 1):
        target = (labels == c).astype(float)
        told = (left.T @ target) ** 2
        rest = (target**2).sum() - told.sum()
        alpha = beta = 1.0
        length = error = 0.0
        for _ in range(11):
            ratio = alpha / beta
            gamma = (squares / (squares + ratio)).sum()
            length = (squares * told / (squares + ratio) ** 2).sum()
            error = (told / (1 + squares / ratio) ** 2).sum() + rest
            alpha, beta = gamma / (length + 1e-5), (size - gamma) / (error + 1e-5)
            if abs(alpha / beta - ratio) / ratio <= 1e-3:
                break
        evidence = width * np.log(alpha) + size * np.log(beta) - np.log(alpha + beta * squares).sum()
        evidence -= beta * error + alpha * length + size * np.log(2 * np.pi)
        evidences.append(evidence / 2 / size)
    return float(np.mean(evidences))


def beside_published(turns: int, sizes: tuple[tuple[int, int, int], ...]) -> dict[str, Any]:
    """LogME and the published algorithm in turns."""
    rows = []
    for size, width, classes in sizes:
        x, y = features(size, width, classes, seed=0)
        ours, theirs = logme(x, y), published(x, y)
        if not abs(ours - theirs) < 1e-6 * abs(theirs):
            raise RuntimeError(f"LogME is {ours} here and {theirs} by the published algorithm")
        taken = in_turns({"ours": lambda: logme(x, y), "theirs": lambda: published(x, y)}, turns)  # noqa: B023
        rows.append(
            [
                f"N = {size}, D = {width}, C = {classes}",
                shown(ratio(taken["theirs"], taken["ours"]), 4.0 if (size, width) == (20000, 768) else None),
                f"{median(taken['ours']):.2f}",
                f"{median(taken['theirs']):.2f}",
            ]
        )
    return {
        "title": "LogME: seconds of the published algorithm over seconds here",
        "columns": ["", "ratio", "seconds here", "seconds published"],
        "rows": rows,
        "note": f"Median (quartiles) of {turns} pairs; features in float32, computed with in float64; both "
        "give the same value. Goals in square brackets.",
    }


def scores() -> dict[str, Callable[..., float]]:
    """Every score of one model's features, classes and probabilities, in its default form."""
    return {
        card.name: getattr(transferability, card.name.lower())
        for card in cards("transferability").values()
        if set(card.needs) <= GIVEN and card.name not in OTHERS
    }


def pool(size: int, widths: tuple[int, ...], classes: int) -> Iterator[tuple[Array, Array, Array]]:
    """Features, labels and probabilities of each model."""
    for seed, width in enumerate(widths):
        x, y = features(size, width, classes, seed)
        logits = x @ np.random.default_rng(seed).standard_normal((width, 10)).astype(np.float32)
        chances = np.exp(logits - logits.max(1, keepdims=True)).astype(float)
        yield x, y, chances / chances.sum(1, keepdims=True)


def whole_pool(size: int, widths: tuple[int, ...], classes: int) -> dict[str, Any]:
    """All scores of each model on one sample, and each score on a sample of its own."""
    called = scores()
    alone: dict[str, list[float]] = {name: [] for name in called}
    together = []
    for x, y, p in pool(size, widths, classes):
        for name, score in called.items():
            alone[name].append(seconds(lambda: score(Sample(x, y, p))))  # noqa: B023
        shared = Sample(x, y, p)
        together.append(sum(seconds(lambda: score(shared)) for score in called.values()))  # noqa: B023
    slowest = max(alone, key=lambda name: sum(alone[name]))
    order = sorted(alone, key=lambda name: -sum(alone[name]))
    whole, apart = sum(together), sum(map(sum, alone.values()))
    rows = [[name, f"{1e3 * median(alone[name]):.1f}", f"{sum(alone[name]):.2f}"] for name in order]
    goal = f"{whole / sum(alone[slowest]):.2f} [<= 2]"
    rows += [
        ["all, a sample of its own for each", f"{1e3 * apart / len(widths):.1f}", f"{apart:.2f}"],
        ["all, one sample", f"{1e3 * whole / len(widths):.1f}", f"{whole:.2f}"],
        [f"all on one sample over {slowest}", goal, ""],
    ]
    return {
        "title": f"All scores of a pool of {len(widths)} models, N = {size}, C = {classes}, "
        f"D = {min(widths)} to {max(widths)}",
        "columns": ["score", "CPU ms for a model", "CPU s for the pool"],
        "rows": rows,
        "note": "Medians over the models, and sums. Goal in square brackets.",
    }


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    began = time.process_time()
    call()
    return time.process_time() - began


def streamed(size: int, width: int) -> Mapping[str, float]:
    """Peak anonymous megabytes of a fresh process above the level after its imports, and its wall seconds."""
    process = subprocess.Popen(
        [sys.executable, str(STREAM), str(size), str(width)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    began = json.loads(process.stdout.readline() or "null")
    level = peak = anonymous(process.pid)
    start = time.monotonic()
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.003)
    _, wrong = process.communicate()
    if process.returncode or began is None:
        raise RuntimeError(f"features in chunks failed:\n{wrong[-2000:]}")
    return {"memory": (peak - level) / 1e6, "seconds": time.monotonic() - start}


def in_chunks(sizes: tuple[int, ...], width: int) -> dict[str, Any]:
    """The memory of several scores of features that are never all there."""
    found = [streamed(size, width) for size in sizes]
    rows = [
        [f"N = {size}", f"{facts['memory']:.0f}", f"{4 * size * width / 1e6:.0f}", f"{facts['seconds']:.0f}"]
        for size, facts in zip(sizes, found, strict=True)
    ]
    goal = f"{found[-1]['memory'] / found[0]['memory']:.2f} [<= 1.1]"
    rows.append([f"N = {sizes[-1]} over N = {sizes[0]}", goal, f"{sizes[-1] / sizes[0]:.2f}", ""])
    return {
        "title": f"Features in chunks of 2000, D = {width}: LogME, H-score (both forms), TransRate, nearest "
        "class mean, energy, ridge probe",
        "columns": ["", "peak MB above imports", "MB of all features", "seconds"],
        "rows": rows,
        "note": "Resident anonymous memory of a fresh process, sampled as it runs. Goal in square brackets.",
    }


def main() -> None:
    """Measure, record, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="pairs of runs of LogME")
    parser.add_argument("--models", type=int, default=24, help="models of the pool")
    parser.add_argument("--print", action="store_true", dest="only", help="do not record")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tables = [
        beside_published(options.turns, ((20000, 768, 200), (5000, 2048, 100), (2000, 512, 10))),
        *(
            whole_pool(size, tuple((128, 256, 512)[i % 3] for i in range(options.models)), classes)
            for size, classes in ((3680, 37), (2000, 10))
        ),
        in_chunks((20000, 80000), 256),
    ]
    result = {"about": about(), "tables": tables}
    print(json.dumps(result, indent=1) if options.only else record("transferability", result))


if __name__ == "__main__":
    main()
