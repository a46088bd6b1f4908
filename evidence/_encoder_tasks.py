"""Tasks that encoders are trained on and judged by: images of 16 x 16 pixels, as patches, and their classes.

Images have one grey, standardised by the mean and deviation of their data set. Five source tasks; eight
targets have other classes than any source, four of digits and four of other things. Patches are of 4 x 4
pixels at every second pixel, in an order (Morton's) in which four neighbours follow each other, so that
convolutions of 2 x 2 behind the first, which takes a patch as one row, only take four rows as one.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from _digit_images import _scaled, images
from _experts import mnist_m
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

from equipoise.problems.data import find

SIDE = 16
CELLS, PIXELS = 64, 16
"""Patches of an image, pixels of a patch."""
MOST = 12_000
"""Images of a data set, the first ones."""
SOURCES = ("mnist 0-4", "usps 0-4", "digits 0-4", "fashion 0-4", "cifar animals")
TARGETS = (
    "mnist 5-9",
    "fashion 5-9",
    "usps 5-9",
    "cifar vehicles",
    "digits 5-9",
    "omniglot alphabets",
    "mnist-m 5-9",
    "cifar-100 groups",
)
"""Digits and other things by turns."""
ANIMALS, VEHICLES = (2, 3, 4, 5, 6, 7), (0, 1, 8, 9)
GROUPS = (2, 6, 10, 14, 17)
"""Of CIFAR-100: flowers, furniture, outdoor scenes, people, trees."""


@dataclass(frozen=True, eq=False)
class Task:
    """Patches of images (n, 1024), standardised, and their classes (n,), 0 to C - 1."""

    x: Tensor
    y: Tensor

    @property
    def classes(self) -> int:
        return int(self.y.max()) + 1

    def order(self, generator: torch.Generator) -> Tensor:
        """The images class by class in turn, so that any first part holds as many of each; others behind."""
        members = [
            found[torch.randperm(len(found), generator=generator)]
            for found in ((self.y == c).nonzero()[:, 0] for c in range(self.classes))
        ]
        count = min(map(len, members))
        turns = torch.stack([one[:count] for one in members], 1).flatten()
        rest = torch.cat([one[count:] for one in members])
        return torch.cat([turns, rest[torch.randperm(len(rest), generator=generator)]])


@cache
def data(name: str) -> tuple[Tensor, Tensor]:
    """All images of a data set (n, 16, 16) and their classes."""
    if name in ("mnist", "usps", "mnist-m"):
        parts = (mnist_m() if name == "mnist-m" else images(name, SIDE)).values()
        return torch.cat([part.x for part in parts])[:MOST], torch.cat([part.y for part in parts])[:MOST]
    if name == "digits":
        pixels, labels = (np.asarray(one) for one in load_digits(return_X_y=True))
        return _scaled(torch.from_numpy(pixels).reshape(-1, 8, 8) * (255 / 16), SIDE), torch.from_numpy(
            labels
        )
    folder, file = {
        "fashion": ("fashion_mnist_900", "fashion_mnist_900.npz"),
        "omniglot": ("omniglot_small", "omniglot_small.npz"),
        "cifar": ("cifar10", "cifar10_8k.npz"),
        "cifar-100": ("cifar100", "cifar100_6k.npz"),
    }[name]
    path = find(folder, file, download=False)
    assert path is not None
    with np.load(path, allow_pickle=False) as kept:
        if name.startswith("cifar"):
            x = np.concatenate([kept["x_train"], kept["x_test"]]).mean(3)
            y = np.concatenate([kept["y_train"], kept["y_test"]])
            y = kept["fine_to_coarse"][y] if name == "cifar-100" else y
        else:
            x, y = kept["x"], kept["alphabet" if name == "omniglot" else "y"]
    return _scaled(torch.from_numpy(x), SIDE), torch.from_numpy(y).long()


@cache
def task(name: str) -> Task:
    """The classes of a data set that a name of SOURCES or TARGETS says."""
    source, part = name.split(" ")
    kept = {
        "0-4": (0, 1, 2, 3, 4),
        "5-9": (5, 6, 7, 8, 9),
        "alphabets": (0, 1, 2, 3, 4),
        "animals": ANIMALS,
        "vehicles": VEHICLES,
        "groups": GROUPS,
    }[part]
    x, y = data(source)
    among = torch.isin(y, torch.tensor(kept))
    return Task(patches((x[among] - x.mean()) / x.std()), torch.searchsorted(torch.tensor(kept), y[among]))


def patches(x: Tensor) -> Tensor:  # (n, 16, 16) -> (n, 64 * 16)
    """Patches of 4 x 4 at every second pixel, the four of every square of squares behind each other."""
    padded = functional.pad(x, (1, 1, 1, 1))
    grid = padded.unfold(1, 4, 2).unfold(2, 4, 2).flatten(3)  # (n, 8, 8, 16)
    halves = grid.reshape(-1, 2, 2, 2, 2, 2, 2, PIXELS)
    return halves.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(1)
