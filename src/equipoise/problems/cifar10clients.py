"""cifar10-clients: small colour photographs of ten kinds of things, dealt to clients.

Data: CIFAR-10 (A. Krizhevsky, 2009), `$EQUIPOISE_DATA/cifar10/cifar10_8k.npz` with x_train
(n, 32, 32, 3) uint8, y_train, x_test and y_test: a subset of 6,000 + 2,000 images, or as many as the file
holds. Licence: none stated by its author, who asks to be cited.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.problem import Split
from equipoise.problems.clients import Clients, Network
from equipoise.problems.data import data_of
from equipoise.problems.inmemory import parts

CARD = Card(
    name="cifar10-clients",
    shape="federation",
    summary="Photographs of ten kinds of things at ten clients, three of whom see them turned.",
    title="Learning Multiple Layers of Features from Tiny Images",
    authors=("Alex Krizhevsky",),
    venue="University of Toronto",
    year=2009,
    cost="300 training images of 32 × 32 × 3 pixels a client; 62,006 parameters",
    use="to see whether what holds on digits holds where ten clients are far from done",
    avoid="for figures to set beside a paper's: by default ten clients hold 3,000 images together",
)


@dataclass
class Cifar10Clients(Clients):
    """CIFAR-10 at several clients; LeNet or a 3072-200-10 network.

    Training and validation images come five to one from the file's training images, dealt before the
    clients get any; test images from its test images. Pixels are scaled to [-1, 1].

    Options: those of `Clients`; `network` is "lenet" or "mlp".
    """

    hidden: ClassVar[int] = 200
    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    networks: ClassVar[tuple[Network, ...]] = ("mlp", "lenet")

    train: int = 3000
    judged: int = 100
    network: Network = "lenet"

    def parts(self) -> Mapping[Split, tuple[Tensor, Tensor]]:
        path = data_of("cifar10-clients", download=None, instead="digits-clients")
        assert path is not None
        return _parts(path, self.split_seed)

    def scaled(self, images: Tensor) -> Tensor:  # (n, 32, 32, 3) uint8 -> (n, 3, 32, 32) in [-1, 1]
        return images.permute(0, 3, 1, 2).float().div(127.5).sub(1)


@lru_cache(maxsize=1)
def _parts(path: Path, seed: int) -> dict[Split, tuple[Tensor, Tensor]]:
    with np.load(path, allow_pickle=False) as file:
        arrays = [torch.from_numpy(file[name]) for name in ("x_train", "y_train", "x_test", "y_test")]
    images, labels, test_images, test_labels = arrays
    validation, train = parts(len(images), (1 / 6,), seed)
    (test,) = parts(len(test_images), (), seed)
    return {
        "train": (images[train], labels[train].long()),
        "validation": (images[validation], labels[validation].long()),
        "test": (test_images[test], test_labels[test].long()),
    }
