"""Merging: three fine-tuned checkpoints become one model, without training and without their data.

One network is trained on digits as they are, and three copies of it are tuned: to digits that lie a pixel
too high, to faded ones, and to noisy ones. Merged, they are to serve all three. Every rule that combines
gradients merges too: what was learned, tuned minus base, is a direction like any other.

What to look at: the worst of the three domains under each merge, beside the base, the plain average, and
each tuned model on its own domain.

    python examples/merge_checkpoints.py
"""

from collections.abc import Callable, Mapping
from statistics import mean

import torch
from _gallery import figure, finish, parser, spread
from torch import Tensor, nn
from torch.nn import functional

from equipoise.merging import TIES, TSVM, Aggregated, IsoC, MergeRule, TaskArithmetic, merge
from equipoise.problems.data import digits

SEEDS = 3
DOMAINS: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "high": lambda x, _: x.view(-1, 8, 8).roll(-1, 1).reshape(-1, 64),
    "faded": lambda x, _: 0.5 * x + 0.3,
    "noisy": lambda x, draws: (x + 0.5 * torch.randn(x.shape, generator=draws)).clamp(0, 1),
}
METHODS: Mapping[str, Callable[[], MergeRule] | str] = {
    "average": "average",
    "task arithmetic, 0.4": lambda: TaskArithmetic(scale=0.4),
    "TIES": TIES,
    "TSVM": TSVM,
    "IsoC": IsoC,
    "UPGrad": lambda: Aggregated("UPGrad"),
}
Data = Mapping[str, tuple[Tensor, Tensor]]


def dealt(seed: int) -> Data:
    """Images and digits to train on and to judge by."""
    images, labels = digits()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    x, y = torch.from_numpy(images).float()[order] / 16, torch.from_numpy(labels)[order]
    return {"train": (x[:1200], y[:1200]), "test": (x[1200:], y[1200:])}


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


def tuned(model: nn.Module, x: Tensor, y: Tensor, steps: int, rate: float) -> nn.Module:
    """The model after so many steps, changed in place."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def accuracies(state: Mapping[str, Tensor], data: Data, seed: int) -> dict[str, float]:
    """On the test images of each domain, in %."""
    model = network()
    model.load_state_dict(state)
    x, y = data["test"]
    found = {}
    with torch.no_grad():
        for name, change in DOMAINS.items():
            seen = change(x, torch.Generator().manual_seed(seed + 1))
            found[name] = 100 * float((model(seen).argmax(1) == y).double().mean())
    return found


def run(seed: int) -> dict[str, dict[str, float]]:
    """Accuracies of the base, the tuned models and the merges."""
    torch.manual_seed(seed)
    data = dealt(seed)
    x, y = data["train"]
    base = tuned(network(), x, y, 80, 0.002).state_dict()
    models = {}
    for name, change in DOMAINS.items():
        copy = network()
        copy.load_state_dict(base)
        models[name] = tuned(copy, change(x, torch.Generator().manual_seed(seed)), y, 60, 0.001).state_dict()
    found = {"base": accuracies(base, data, seed)}
    own = {name: accuracies(state, data, seed)[name] for name, state in models.items()}
    for name, method in METHODS.items():
        merged = merge(models, base, method=method if isinstance(method, str) else method())
        found[name] = accuracies(merged, data, seed)
    return {**found, "each its own": own}


def main() -> None:
    out = parser(__doc__).parse_args().out
    runs = [run(seed) for seed in range(SEEDS)]
    worst = {name: [min(one[name].values()) for one in runs] for name in runs[0]}
    for name in worst:
        print(f"{name:22} worst domain {spread(worst[name])} %")
    drawn, (plot,) = figure(height=4.2)
    for place, name in enumerate(worst):
        for number, domain in enumerate(DOMAINS):
            plot.plot(mean(one[name][domain] for one in runs), place, "o", color=f"C{number}")
        plot.plot(mean(worst[name]), place, "|", markersize=18, color="C7")
    for number, domain in enumerate(DOMAINS):
        plot.plot([], [], "o", color=f"C{number}", label=f"{domain} digits")
    plot.set_yticks(range(len(worst)), list(worst))
    plot.invert_yaxis()
    plot.set_xlabel(f"test accuracy, % (mean of {SEEDS} seeds; bar: worst domain of each)")
    plot.set_title("Three tuned networks in one")
    plot.legend(fontsize=8, loc="lower left")
    best = max(METHODS, key=lambda name: mean(worst[name]))
    rest = f"the average {spread(worst['average'])} %, the base {spread(worst['base'])} %"
    finish(
        out,
        "merge_checkpoints",
        drawn,
        f"Merged by {best}, the network names {spread(worst[best])} % in its worst domain; {rest}, and tuned "
        f"models each in its own {spread(worst['each its own'])} %.",
    )


if __name__ == "__main__":
    main()
