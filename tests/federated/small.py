"""A tiny federation of real digits, with a network for each thing that may go wrong in one."""

from dataclasses import dataclass, field
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import nn

from equipoise.core.federation import Federation


class Tied(nn.Module):
    """Two layers with one weight between them."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.second.weight = self.first.weight

    def forward(self, images):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(images)))))


class Functional(nn.Module):
    """Drops inputs without a module that says so."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images):
        return self.head(nn.functional.dropout(images, 0.5, self.training))


NETWORKS = {
    "softmax": lambda: nn.Linear(64, 10),
    "mlp": lambda: nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)),
    "cnn": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(27, 10),
    ),
    "batchnorm": lambda: nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 10)),
    "cumulative": lambda: nn.Sequential(nn.BatchNorm1d(64, momentum=None), nn.Linear(64, 10)),
    "dropout": lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 10)),
    "functional": Functional,
    "tied": Tied,
    "frozen": lambda: nn.Sequential(nn.Linear(64, 16).requires_grad_(False), nn.ReLU(), nn.Linear(16, 10)),
}


@dataclass
class Small(Federation):
    """Clients "a" to "e" ("g" at most) of 12, 11, 10, 9 and 8 (7, 6) digits to train on, and 10 each to judge
    by.

    `broken` raise for their examples, `spoilt` have labels that no class has, `empty` have none, the
    first image of `poisoned` is not a number. `asked` counts how often each split was looked at.
    """

    names: str = "abcde"
    network: str = "softmax"
    dtype: str = "float64"
    broken: str = ""
    spoilt: str = ""
    empty: str = ""
    poisoned: str = ""
    asked: dict = field(default_factory=dict, compare=False)

    @property
    def clients(self):
        return tuple(self.names)

    def model(self):
        return NETWORKS[self.network]().to(getattr(torch, self.dtype))

    def examples(self, client, split):
        self.asked[split] = self.asked.get(split, 0) + 1
        if client in self.broken:
            raise OSError(f"the disk of {client} is gone")
        images, labels = dealt("abcdefg".index(client), split)
        if client in self.spoilt and split == "train":
            labels = labels + 90
        if client in self.poisoned and split == "train":
            images = torch.cat([images[:1] * torch.nan, images[1:]])
        rows = slice(0, 0 if client in self.empty else None)
        return images[rows].to(getattr(torch, self.dtype)), labels[rows]


@cache
def dealt(place, split):
    images, labels = load_digits(return_X_y=True)
    start = {"train": 0, "validation": 100, "test": 200}[split]
    rows = slice(start + 12 * place, start + 12 * place + (12 - place if split == "train" else 10))
    return torch.from_numpy(images[rows] / 16), torch.from_numpy(labels[rows])


def flat(model):
    """All numbers of a model, buffers with them."""
    return torch.cat([tensor.detach().double().flatten() for tensor in model.state_dict().values()])
