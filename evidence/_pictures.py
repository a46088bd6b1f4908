"""Small pictures from $EQUIPOISE_DATA, 16 pixels a side, and scikit-learn's digits for the mechanics."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

from equipoise.problems.data import find

SIDE = 16
FILES = {
    "cifar10": ("cifar10", "cifar10_8k.npz"),
    "mnist": ("mnist", "mnist.npz"),
    "mnist_m": ("mnist_m", "mnist_m_7k.npz"),
    "usps": ("usps", "usps.npz"),
}


@dataclass(frozen=True)
class Pictures:
    """Images (n, channels, 16, 16) and labels (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, picks: Tensor | slice) -> "Pictures":
        return Pictures(self.images[picks], self.labels[picks])

    def dealt(self, seed: int, *sizes: int) -> list["Pictures"]:
        """Disjoint draws of the given sizes."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return [self[part] for part in order[: sum(sizes)].split(list(sizes))]

    def batches(self, size: int, generator: torch.Generator) -> Iterator["Pictures"]:
        """The pictures in a drawn order; what does not fill a batch is left for another epoch."""
        order = torch.randperm(len(self), generator=generator)
        for picks in order.split(size):
            if len(picks) == size:
                yield self[picks]


def load(name: str, part: str, *, grey: bool = True, fast: bool = False) -> Pictures:
    """The part "train" or "test" of a set; with `fast`, halves of the digits that scikit-learn ships.

    Digits of 28 pixels lose their margin of 4, which those of USPS do not have. Images have mean 0 and
    deviation 1 over the whole part.
    """
    if fast:
        data = load_digits()
        half = slice(0, 900) if part == "train" else slice(900, None)
        images, labels = data.images[half, :, :, None] / 16, data.target[half]
    else:
        path = find(*FILES[name], download=False)
        assert path is not None
        with np.load(path, allow_pickle=False) as file:
            images, labels = file[f"x_{part}"].astype(np.float32) / 255, file[f"y_{part}"]
        images = images if images.ndim == 4 else images[..., None]
        if images.shape[1] == 28:
            images = images[:, 4:24, 4:24]
    pixels = torch.as_tensor(images, dtype=torch.float32).permute(0, 3, 1, 2)
    if grey:
        pixels = pixels.mean(1, keepdim=True)
    elif pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    pixels = functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
    pixels = (pixels - pixels.mean()) / pixels.std()
    return Pictures(pixels, torch.as_tensor(labels, dtype=torch.long))


@torch.no_grad()
def accuracy(scores: Tensor, labels: Tensor) -> float:  # (n, c), (n,) -> per cent
    return 100 * float((scores.argmax(1) == labels).double().mean())
