"""Domain adaptation from MNIST to USPS as two objectives: name source digits, align both domains' features.

Alignment is at its best where all features are equal, so a rule that follows the shorter gradient can give up
the digits for it. The table shows equal weights, MGDA as it is, MGDA behind NormalizedRows, and UPGrad. After
Lv et al., "Pareto Domain Adaptation", NeurIPS 2021 (arXiv 2112.04137); alignment is of means and covariances,
after Sun and Saenko, "Deep CORAL", 2016 (arXiv 1607.01719).

    EQUIPOISE_DATA=... python examples/pareto_domain_adaptation.py --seeds 3 --steps 400

USPS labels serve to judge the models at the end and for nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
import torch
from _gallery import dots, figure, finish, parser, spread
from torch import Tensor, nn
from torch.nn import functional

import equipoise
from equipoise.aggregation import MGDA, Mean, NormalizedRows, UPGrad
from equipoise.core.rule import GramianRule, RowTransform
from equipoise.problems.data import find

BATCH = 64
GREY, SPREAD = 0.13, 0.31  # of MNIST's pixels, applied to both domains
METHODS: Mapping[str, tuple[GramianRule, tuple[RowTransform, ...]]] = {
    "equal weights": (Mean(), ()),
    "MGDA": (MGDA(), ()),
    "MGDA, normalized rows": (MGDA(), (NormalizedRows(),)),
    "UPGrad": (UPGrad(), ()),
}


@dataclass(frozen=True)
class Domain:
    """Images (n, 1, 16, 16) and digits (n,), to train on and to judge by."""

    x: Tensor
    y: Tensor
    judged_x: Tensor
    judged_y: Tensor


def domain(name: str, count: int, seed: int) -> Domain:
    """`count` images of "mnist" or "usps" to train on, 1,000 others to judge by, drawn by the seed."""
    path = find(name, f"{name}.npz", download=False)
    assert path is not None
    generator, parts = torch.Generator().manual_seed(seed), []
    with np.load(path, allow_pickle=False) as file:
        for part, size in (("train", count), ("test", 1000)):
            x, y = torch.from_numpy(file[f"x_{part}"]), torch.from_numpy(file[f"y_{part}"])
            index = torch.randperm(len(y), generator=generator)[:size]
            small = functional.interpolate(x[index].unsqueeze(1).float(), (16, 16), mode="area")
            parts += [(small / 255 - GREY) / SPREAD, y[index].long()]
    return Domain(*parts)


def discrepancy(source: Tensor, target: Tensor) -> Tensor:  # (n, k), (n, k) -> ()
    """How far means and covariances of the features lie apart (deep CORAL, with the means)."""
    k = source.shape[1]
    means = (source.mean(0) - target.mean(0)).square().sum() / k
    return means + (source.T.cov() - target.T.cov()).square().sum() / (4 * k * k)


def train(method: str, source: Domain, target: Domain, steps: int, rate: float, seed: int) -> list[float]:
    """Accuracy on the target and on the source after training."""
    torch.manual_seed(seed)
    features = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 32),
    )
    head = nn.Sequential(nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD([*features.parameters(), *head.parameters()], lr=rate, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    rule, transforms = METHODS[method]
    for _ in range(steps):
        here = torch.randint(len(source.x), (BATCH,), generator=generator)
        there = torch.randint(len(target.x), (BATCH,), generator=generator)
        found = features(torch.cat([source.x[here], target.x[there]]))
        losses = {
            "digits": functional.cross_entropy(head(found[:BATCH]), source.y[here]),
            "alignment": discrepancy(found[:BATCH], found[BATCH:]),
        }
        optimizer.zero_grad()
        equipoise.backward(losses, rule, parameters=nn.Sequential(features, head), transforms=transforms)
        optimizer.step()
    with torch.no_grad():
        pairs = ((target.judged_x, target.judged_y), (source.judged_x, source.judged_y))
        return [float((head(features(x)).argmax(1) == y).double().mean()) for x, y in pairs]


def compare(seeds: int, steps: int, count: int, rate: float) -> dict[str, list[list[float]]]:
    """Method -> for each seed the accuracies on target and source; all see the same batches."""
    found: dict[str, list[list[float]]] = {method: [] for method in METHODS}
    for seed in range(seeds):
        source, target = domain("mnist", count, seed), domain("usps", count, seed)
        for method in METHODS:
            found[method].append(train(method, source, target, steps, rate, seed))
    return found


def table(found: Mapping[str, Sequence[Sequence[float]]]) -> str:
    lines = [f"{'method':<22}  {'USPS (target)':<15}  MNIST (source)"]
    for method, results in found.items():
        target, source = (spread(column, 3) for column in zip(*results, strict=True))
        lines.append(f"{method:<22}  {target:<15}  {source}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    asked = parser(__doc__)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--steps", type=int, default=400)
    asked.add_argument("--count", type=int, default=2000, help="training images of each domain")
    asked.add_argument("--rate", type=float, default=0.05, help="the learning rate of all methods")
    options = asked.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"accuracy after {options.steps} steps, {options.seeds} seeds")
    found = compare(options.seeds, options.steps, options.count, options.rate)
    print(table(found))
    target = {method: [100 * run[0] for run in runs] for method, runs in found.items()}
    best = max(target, key=lambda method: mean(target[method]))
    drawn, (plot,) = figure(height=3.2)
    dots(plot, target, best)
    plot.set_xlabel(f"accuracy on USPS, whose labels nobody saw, % ({options.seeds} seeds, and their mean)")
    plot.set_title("From MNIST to USPS")
    said = f"{best} names {spread(target[best])} % of the target's digits"
    if best != "equal weights":
        said += f", equal weights {spread(target['equal weights'])} %"
    finish(
        options.out, "pareto_domain_adaptation", drawn, f"{said}; MGDA as it is {spread(target['MGDA'])} %."
    )


if __name__ == "__main__":
    main()
