"""Small experts on views of scikit-learn's digits, fine-tuned from one base in a second."""

from collections.abc import Callable
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "turned": lambda x: x.view(-1, 8, 8).rot90(1, (1, 2)).reshape(-1, 64),
    "inverted": lambda x: 1 - x,
}
TRAIN, HELD = slice(0, 1000), slice(1000, 1400)


@cache
def digits() -> tuple[Tensor, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    return torch.tensor(pixels / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def train(model: nn.Module, images: Tensor, labels: Tensor, steps: int, seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        rows = torch.randint(len(images), (64,), generator=draw)
        optimizer.zero_grad()
        functional.cross_entropy(model(images[rows]), labels[rows]).backward()
        optimizer.step()
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@cache
def experts(
    pretraining: int = 150, tuning: int = 300
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """The experts by view, and their base, which saw all views for some steps."""
    images, labels = (found[TRAIN] for found in digits())
    torch.manual_seed(0)
    model = network()
    everything = torch.cat([view(images) for view in VIEWS.values()])
    base = train(model, everything, labels.repeat(len(VIEWS)), pretraining, 0)
    tuned = {}
    for name, view in VIEWS.items():
        model.load_state_dict(base)
        tuned[name] = train(model, view(images), labels, tuning, 1)
    return tuned, base


def held(size: int = 100) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Labelled batches of each view that no model was trained on."""
    images, labels = (found[HELD] for found in digits())
    return {
        name: list(zip(view(images).split(size), labels.split(size), strict=True))
        for name, view in VIEWS.items()
    }


def accuracy(state: dict[str, Tensor]) -> dict[str, float]:
    """The share of held images that are named rightly, view by view."""
    model = network()
    model.load_state_dict(state)
    with torch.no_grad():
        return {
            name: sum(int((model(x).argmax(1) == y).sum()) for x, y in found) / 400
            for name, found in held().items()
        }
