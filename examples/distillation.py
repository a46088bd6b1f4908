"""Distillation: a small network learns from labels, from a teacher's answers, and from its inner features.

The three losses share one student, and each may pull it its own way. The teacher is an ensemble of wide
networks, the student a narrow one with few labels; what more it learns comes from the teacher's answers on
images without labels.

What to look at: the student on its labels alone, under the sum of all three as it is usually weighed, and
under rules that need no weights.

    python examples/distillation.py
"""

from collections.abc import Mapping
from functools import cache
from statistics import mean

import torch
from _gallery import dots, figure, finish, parser, spread
from torch import Tensor, nn
from torch.nn import functional

import equipoise
from equipoise.aggregation import Mean, UPGrad
from equipoise.core.rule import Rule
from equipoise.problems.data import digits
from equipoise.scalarization import Linear

SEEDS, STEPS, LABELS, HEAT = 4, 300, 100, 4.0
RATES = (0.003, 0.01)
TUNING = 100
"""The seed of the runs that choose, which are not reported."""

WAYS: Mapping[str, tuple[tuple[str, ...], type[Rule], tuple[float, ...] | None]] = {
    "labels alone": (("labels",), Mean, None),
    "answers alone": (("answers",), Mean, None),
    "mean of three": (("labels", "answers", "features"), Mean, None),
    "1 : 9 : 1": (("labels", "answers", "features"), Linear, (1, 9, 1)),
    "UPGrad of three": (("labels", "answers", "features"), UPGrad, None),
}
Parts = Mapping[str, tuple[Tensor, Tensor]]


def dealt(seed: int) -> Parts:
    """Images and digits: few with labels, many to ask the teacher about, others to choose and to judge by."""
    images, labels = digits()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    x, y = torch.from_numpy(images).float()[order] / 16, torch.from_numpy(labels)[order]
    sizes = (LABELS, 897 - LABELS, 300, 600)
    names = ("labelled", "asked", "validation", "test")
    return dict(zip(names, zip(x.split(sizes), y.split(sizes), strict=True), strict=True))


def network(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, 10))


@cache
def taught(seed: int) -> tuple[Tensor, Tensor]:
    """What the teacher says of all images to train on: answers (n, 10), and features (n, 16)."""
    parts = dealt(seed)
    x, y = (torch.cat([parts["labelled"][i], parts["asked"][i]]) for i in (0, 1))
    answers, features = [], []
    for member in range(3):
        torch.manual_seed(1000 * seed + member)
        model = network(256)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
        for _ in range(150):
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            answers.append(model(x))
            features.append(model[:4](x))
    return torch.stack(answers).mean(0), functional.normalize(features[0], dim=1)


def train(way: str, rate: float, seed: int, split: str) -> float:
    """The accuracy of the student on a split, in %."""
    names, make, weights = WAYS[way]
    parts, rule = dealt(seed), make()
    answers, features = taught(seed)
    x, y = parts["labelled"]
    everything = torch.cat([x, parts["asked"][0]])
    torch.manual_seed(seed)
    student, generator = network(8), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(student.parameters(), lr=rate)
    for _ in range(STEPS):
        index = torch.randint(len(everything), (128,), generator=generator)
        inner = student[:4](everything[index])
        soft = functional.log_softmax(student[4](inner) / HEAT, 1)
        losses = {
            "labels": functional.cross_entropy(student(x), y),
            "answers": HEAT**2
            * functional.kl_div(soft, (answers[index] / HEAT).softmax(1), reduction="batchmean"),
            "features": (functional.normalize(inner, dim=1) - features[index]).square().sum(1).mean(),
        }
        chosen = {name: losses[name] for name in names}
        equipoise.backward(chosen, rule, parameters=student, preference=weights)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        x, y = parts[split]
        return 100 * float((student(x).argmax(1) == y).double().mean())


def main() -> None:
    out = parser(__doc__).parse_args().out
    found = {}
    for way in WAYS:
        rate = max(RATES, key=lambda rate, way=way: train(way, rate, TUNING, "validation"))
        found[way] = [train(way, rate, seed, "test") for seed in range(SEEDS)]
        print(f"{way:16} rate {rate:<6} {spread(found[way])} %")
    best = max(found, key=lambda way: mean(found[way]))
    drawn, (plot,) = figure(height=3.4)
    dots(plot, found, best)
    plot.set_xlabel(f"test accuracy of the student, % (each of {SEEDS} seeds, and their mean)")
    plot.set_title(f"A student of 8 units with {LABELS} labels")
    finish(
        out,
        "distillation",
        drawn,
        f"The student reaches {spread(found['labels alone'])} % on labels alone and is best with "
        f"{best}, {spread(found[best])} %; the mean of three comes to {spread(found['mean of three'])} %.",
    )


if __name__ == "__main__":
    main()
