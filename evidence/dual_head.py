"""DHO: one head for the labels, one for the teacher.

Kang, Lee, Jang and Hwang 2025 (arXiv 2505.07675). Where few labels and a teacher train one head, the paper
says, their gradients conflict; a head for each, whose predictions are mixed afterwards, learns better
features and predicts better. Here a teacher that knows the digits of USPS alone, and is often wrong on MNIST,
teaches a small network beside 2 or 8 labels of each digit of MNIST and 1,500 images without labels, all 16
pixels a side. The single head has the same network, losses and steps.

Both methods are tuned over the same nine weights lambda of the labels, on 500 validation images of two
seeds that are not reported; alpha and beta of the two heads are chosen after training on the validation
images of each run, as in the paper. The conflict is the cosine of the two losses' gradients, averaged over
the last half of training.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean

import torch
from _experiment import Claim, Table, Verdict, interval, run, spread, verdict
from _pictures import Pictures, accuracy, load
from torch import Tensor, nn
from torch.nn import functional

from equipoise.core.collect import gradients
from equipoise.scalarization import DHO

RECORDED: dict[str, Verdict] = {
    "accuracy": "holds",
    "heads": "holds",
    "conflict": "holds",
    "features": "holds",
}
TUNING = 1000  # seeds from here on are for tuning
SHOTS = (2, 8)
METHODS = ("single head", "dual head")
LAMBDAS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.997, 0.999)


@dataclass(frozen=True)
class Lesson:
    labelled: Pictures
    unlabelled: Pictures
    validation: Pictures


@dataclass(frozen=True)
class Outcome:
    """Accuracies in per cent, and the mean cosines of the two gradients on the features and on the head."""

    validation: float
    test: float
    supervised: float
    distilled: float
    features: float
    head: float | None


class Student(DHO):
    """Two heads, or the same one twice."""

    def __init__(self, method: str) -> None:
        extractor = nn.Sequential(nn.Flatten(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        first, second = nn.Linear(64, 10), nn.Linear(64, 10)
        super().__init__(extractor, first, second if method == "dual head" else first)


def teacher(fast: bool) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    pictures = load("usps", "train", fast=fast)
    for _ in range(2 if fast else 8):
        for batch in pictures.batches(64, generator):
            optimizer.zero_grad()
            functional.cross_entropy(model(batch.images), batch.labels).backward()
            optimizer.step()
    return model


def draw(pictures: Pictures, shots: int, seed: int, fast: bool) -> Lesson:
    """`shots` labels of each digit, and disjoint images without labels and for validation."""
    sizes = (300, 200, 200) if fast else (1000, 1500, 500)
    pool, unlabelled, validation = pictures.dealt(seed, *sizes)
    places = [torch.nonzero(pool.labels == digit)[:shots, 0] for digit in range(10)]
    return Lesson(pool[torch.cat(places)], unlabelled, validation)


def train(
    method: str, weight: float, shots: int, seed: int, fast: bool, given: tuple[nn.Module, Pictures, Pictures]
) -> Outcome:
    guide, pictures, test = given
    lesson = draw(pictures, shots, seed, fast)
    with torch.no_grad():
        hints = guide(lesson.labelled.images), guide(lesson.unlabelled.images)
    torch.manual_seed(seed)
    model = Student(method)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(seed)
    steps = 20 if fast else 800
    weights = list(model.extractor.parameters())
    cosines: list[tuple[float, float | None]] = []
    for step in range(steps):
        here = torch.randint(len(lesson.labelled), (min(64, len(lesson.labelled)),), generator=generator)
        there = torch.randint(len(lesson.unlabelled), (64,), generator=generator)
        labelled = lesson.labelled[here]
        losses = model.losses(
            labelled.images, labelled.labels, hints[0][here], lesson.unlabelled.images[there], hints[1][there]
        )
        if step >= steps // 2 and step % 10 == 0:
            head = list(model.supervised.parameters()) if method == "single head" else None
            cosines.append((cosine(losses, weights), cosine(losses, head) if head else None))
        optimizer.zero_grad()
        (weight * losses["supervised"] + (1 - weight) * losses["distillation"]).backward()
        optimizer.step()
    if method == "dual head":
        model.calibrate(lesson.validation.images, lesson.validation.labels)
    else:
        model.alpha.fill_(1.0)
    validated = accuracy(model.predict(lesson.validation.images), lesson.validation.labels)
    supervised, distilled = model(test.images)
    heads = [h for _, h in cosines if h is not None]
    return Outcome(
        validated,
        accuracy(model.predict(test.images), test.labels),
        accuracy(supervised, test.labels),
        accuracy(distilled, test.labels),
        mean(f for f, _ in cosines),
        mean(heads) if heads else None,
    )


def cosine(losses: dict[str, Tensor], parameters: list[nn.Parameter]) -> float:
    return float(gradients(losses, parameters, retain_graph=True).cosines()[0, 1])


def experiment(fast: bool) -> Iterator[Table | Claim]:
    seeds, tuning = (2, 1) if fast else (10, 2)
    pictures, test = load("mnist", "train", fast=fast), load("mnist", "test", fast=fast)
    guide = teacher(fast)
    given = guide, pictures, test
    ended: dict[tuple[str, int], list[Outcome]] = {}
    rows = []
    for shots in SHOTS:
        for method in METHODS:
            grid = LAMBDAS[::8] if fast else LAMBDAS
            scores = {
                w: mean(train(method, w, shots, TUNING + i, fast, given).validation for i in range(tuning))
                for w in grid
            }
            best = max(grid, key=lambda w: scores[w])
            found = ended[method, shots] = [
                train(method, best, shots, seed, fast, given) for seed in range(seeds)
            ]
            head = [o.head for o in found if o.head is not None]
            shown = [
                spread([getattr(o, part) for o in found], 2) for part in ("test", "supervised", "distilled")
            ]
            rows.append(
                (
                    shots,
                    method,
                    *shown,
                    spread([o.features for o in found]),
                    spread(head) if head else "",
                    best,
                )
            )
    with torch.no_grad():
        known = accuracy(guide(test.images), test.labels)
    yield Table(
        f"MNIST with few labels, {seeds} seeds",
        (
            "labels a digit",
            "method",
            "test %",
            "supervised head %",
            "distilled head %",
            "cosine, features",
            "cosine, head",
            "lambda",
        ),
        rows,
        f"the teacher, trained on USPS, is right on {known:.1f} % of the test images.",
    )

    def gained(part: str, shots: int) -> list[float]:
        pairs = zip(ended["single head", shots], ended["dual head", shots], strict=True)
        return [getattr(b, part) - getattr(a, part) for a, b in pairs]

    advantages = {f"points gained, {s} labels a digit:": interval(gained("test", s)) for s in SHOTS}
    yield Claim("accuracy", "Two heads predict better than one", *verdict(advantages))
    advantages = {}
    for shots in SHOTS:
        duals = ended["dual head", shots]
        better = [o.test - max(o.supervised, o.distilled) for o in duals]
        advantages[f"points above the better head, {shots} labels a digit:"] = interval(better)
    yield Claim("heads", "The mixture predicts better than either head alone", *verdict(advantages))
    advantages = {
        f"minus the cosine on the head, {s} labels a digit:": interval(
            [-o.head for o in ended["single head", s] if o.head is not None]
        )
        for s in SHOTS
    }
    yield Claim("conflict", "On a single head the two gradients conflict", *verdict(advantages))
    advantages = {f"cosine gained, {s} labels a digit:": interval(gained("features", s)) for s in SHOTS}
    yield Claim("features", "With two heads the gradients agree better on the features", *verdict(advantages))


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
