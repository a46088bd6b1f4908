"""Physics-informed training: a heat equation whose three losses pull apart.

A network u(x, t) is to solve u_t = k u_xx on a rod of length 1 that is cold at both ends and starts with the
temperature sin(pi x) + sin(3 pi x) / 2. Nothing is measured: the losses are the residual of the equation, the
boundary and the initial temperature, and the exact solution is known, so that the error can be told. The
residual is lowest for a flat u, which the initial temperature forbids.

What to look at: the error under the mean, under fixed weights that count the edges of the domain (boundary
and initial temperature) ten times, and under rules that settle conflict, each at the better of two rates.

    python examples/physics_informed.py
"""

from collections.abc import Callable, Mapping
from math import pi
from statistics import mean

import torch
from _gallery import dots, figure, finish, parser, spread
from torch import Tensor, nn

import equipoise
from equipoise.aggregation import ConFIG, Mean, UPGrad
from equipoise.core.rule import Rule
from equipoise.scalarization import Linear

CONDUCTIVITY = 0.1
STEPS, SEEDS, POINTS, ENDS = 400, 3, 200, 50
RATES = (2e-2, 4e-2)
TUNING = 100
"""The seed of the runs that choose, which are not reported."""

WAYS: Mapping[str, tuple[Callable[[], Rule], tuple[float, ...] | None]] = {
    "mean": (Mean, None),
    "edges x 10": (Linear, (1, 10, 10)),
    "ConFIG": (ConFIG, None),
    "UPGrad": (UPGrad, None),
}
"""A rule, and weights for it where it takes some."""


def exact(x: Tensor, t: Tensor) -> Tensor:  # (n,), (n,) -> (n,)
    """The solution, a sum of two modes that die out at rates of their own."""
    slow = (-CONDUCTIVITY * pi**2 * t).exp() * (pi * x).sin()
    fast = (-CONDUCTIVITY * (3 * pi) ** 2 * t).exp() * (3 * pi * x).sin()
    return slow + fast / 2


def residual(u: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Tensor) -> Tensor:  # (n,), (n,) -> (n,)
    """u_t - k u_xx, by differentiating the network twice."""
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    value = u(x, t)
    by_x, by_t = torch.autograd.grad(value.sum(), (x, t), create_graph=True)
    (twice,) = torch.autograd.grad(by_x.sum(), x, create_graph=True)
    return by_t - CONDUCTIVITY * twice


class Temperature(nn.Module):
    """u(x, t) as a small network of smooth activations."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:  # (n,), (n,) -> (n,)
        return self.layers(torch.stack([2 * x - 1, 2 * t - 1], 1)).squeeze(1)


def losses(model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """The three losses on points drawn afresh."""
    x, t = torch.rand(2, POINTS, generator=generator)
    start, when = torch.rand(2, ENDS, generator=generator)
    side = torch.arange(ENDS).remainder(2).float()
    zero = torch.zeros(ENDS)
    return {
        "residual": residual(model, x, t).square().mean(),
        "boundary": model(side, when).square().mean(),
        "initial": (model(start, zero) - exact(start, zero)).square().mean(),
    }


def error(model: nn.Module, seed: int) -> float:
    """The relative L2 error on 2,000 points."""
    x, t = torch.rand(2, 2000, generator=torch.Generator().manual_seed(10_000 + seed))
    with torch.no_grad():
        wanted = exact(x, t)
        return float((model(x, t) - wanted).norm() / wanted.norm())


def train(way: str, rate: float, seed: int, steps: int = STEPS) -> tuple[float, float]:
    """The error at the end, and the mean cosine of the gradients of residual and initial temperature, as seen
    at every fortieth step."""
    torch.manual_seed(seed)
    (make, preference), cosines = WAYS[way], []
    rule = make()
    model, generator = Temperature(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for number in range(steps):
        now = losses(model, generator)
        if number % 40 == 0:
            bundle = equipoise.gradients(now, parameters=model, retain_graph=True)
            cosines.append(float(bundle.cosines()[0, 2]))
        equipoise.backward(now, rule, parameters=model, preference=preference)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return error(model, seed), mean(cosines)


def main() -> None:
    out = parser(__doc__).parse_args().out
    found: dict[str, list[float]] = {}
    opposed = []
    for name in WAYS:
        rate = min(RATES, key=lambda rate, name=name: train(name, rate, TUNING)[0])
        runs = [train(name, rate, seed) for seed in range(SEEDS)]
        found[name] = [100 * run[0] for run in runs]
        opposed += [run[1] for run in runs] if name == "mean" else []
        print(f"{name:24} rate {rate:<6} error {spread(found[name], 2)} %")
    best = min(found, key=lambda name: mean(found[name]))
    drawn, (plot,) = figure(height=3.2)
    dots(plot, found, best)
    plot.set_xlim(left=0)
    plot.set_xlabel(f"relative error of the temperature, % (each of {SEEDS} seeds, and their mean)")
    plot.set_title(f"Heat equation after {STEPS} steps")
    least, plain = mean(found[best]), mean(found["mean"])
    said = f"{best} ends with an error of {least:.1f} %, the mean with {plain:.1f} %"
    if best == "mean":
        said = f"nothing beats the mean, which ends with an error of {plain:.1f} %"
    finish(
        out,
        "physics_informed",
        drawn,
        f"Gradients of residual and initial temperature have a mean cosine of {mean(opposed):+.2f}; {said}, "
        f"over {SEEDS} seeds.",
    )


if __name__ == "__main__":
    main()
