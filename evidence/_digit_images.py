"""MNIST and USPS as rows of pixels in [0, 1], a fixed part of each for validation and for testing."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from equipoise.problems.data import find

FROM_TRAINING = {"mnist": 10_000, "usps": 1_500}  # the last ones of the training part are for validation


@dataclass(frozen=True)
class Images:
    """Images (n, side, side) in [0, 1] and their digits (n,)."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: Tensor) -> "Images":
        return Images(self.x[index], self.y[index])

    def some(self, count: int, generator: torch.Generator) -> "Images":
        return self.take(torch.randperm(len(self), generator=generator)[:count])

    def of(self, digits: tuple[int, ...]) -> "Images":
        return self.take(torch.isin(self.y, torch.tensor(digits)).nonzero()[:, 0])


@cache
def images(name: str, side: int) -> Mapping[str, Images]:
    """The parts "train", "validation" and "test" of `name` ("mnist" or "usps"), scaled to `side` pixels."""
    path = find(name, f"{name}.npz", download=False)
    assert path is not None
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    cut = len(arrays["y_train"]) - FROM_TRAINING[name]
    parts = {
        "train": (arrays["x_train"][:cut], arrays["y_train"][:cut]),
        "validation": (arrays["x_train"][cut:], arrays["y_train"][cut:]),
        "test": (arrays["x_test"], arrays["y_test"]),
    }
    return {part: Images(_scaled(x, side), y.long()) for part, (x, y) in parts.items()}


def _scaled(x: Tensor, side: int) -> Tensor:  # (n, a, a) uint8 -> (n, side, side) float32
    small = [
        functional.interpolate(part.float(), (side, side), mode="bilinear", antialias=True)
        for part in x.unsqueeze(1).split(10_000)
    ]
    return torch.cat(small).squeeze(1).div_(255)
