"""mnist-pairs: two MNIST digits in one image, after MultiMNIST.

Data: MNIST (Y. LeCun, C. Cortes and C. Burges), `$EQUIPOISE_DATA/mnist/mnist.npz` with x_train
(60000, 28, 28), y_train, x_test and y_test, or OpenML's data set 554. Licence: commonly stated as
CC BY-SA 3.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.core.card import Card
from equipoise.core.problem import Split
from equipoise.problems.data import data_of
from equipoise.problems.inmemory import Examples, parts
from equipoise.problems.mnist import read_mnist
from equipoise.problems.pairs import SIDES, Pairs, draw_pairs
from equipoise.problems.trunk import Trunk

CARD = Card(
    name="mnist-pairs",
    shape="problem",
    summary="MultiMNIST: two MNIST digits overlaid in one image, each to be named.",
    title="Multi-Task Learning as Multi-Objective Optimization",
    authors=("Ozan Sener", "Vladlen Koltun"),
    venue="NeurIPS",
    year=2018,
    arxiv="1810.04650",
    cost="395 steps of a small convolutional network a trial",
    use="to compare rules on the benchmark that most of their papers use",
    avoid="for figures to set beside a paper's: by default it trains on 10,000 pairs for 5 epochs",
)


@dataclass
class MnistPairs(Pairs):
    """Name two overlaid MNIST digits with a small LeNet as the trunk.

    The canvas is 36 pixels wide as in Sabour, Frosst and Hinton (2017); the left digit lies in its upper
    left corner and the right one 6 pixels further, as in Sener and Koltun (2018), the darker pixel shows,
    and the image is scaled to 28 pixels (here with averaging). Training and validation digits come
    from MNIST's training images, 55,000 and 5,000 of them, dealt before any is paired; test digits
    from its test images.

    Options: `pairs` to train on (55000 for full size), `judged` pairs each for validation and test,
    `offset`, `channels` of the first of two convolutions (the second has twice as many), `width` of
    the trunk's last layer, `download`.
    """

    epochs: ClassVar[int] = 5
    learning_rates: ClassVar[tuple[float, ...]] = (0.01, 0.03, 0.1)

    pairs: int = 10_000
    judged: int = 5_000
    offset: int = 6
    channels: int = 8
    width: int = 50
    download: bool = False

    def splits(self) -> Mapping[Split, Examples]:
        path = data_of("mnist-pairs", download=self.download)
        return _splits(path, self.pairs, self.judged, self.offset, self.split_seed)

    def model(self) -> nn.Module:
        first, second = self.channels, 2 * self.channels
        trunk = nn.Sequential(
            nn.Unflatten(1, (1, 28)),
            nn.Conv2d(1, first, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(first, second, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(second * 4 * 4, self.width),
            nn.ReLU(),
        )
        return Trunk(trunk, SIDES, width=self.width, outputs=10)


@lru_cache(maxsize=1)
def _splits(path: Path | None, pairs: int, judged: int, offset: int, seed: int) -> dict[Split, Examples]:
    train_digits, train_labels, test_digits, test_labels = read_mnist(path)
    validation, train = parts(len(train_digits), (1 / 12,), seed)
    draw = {"offset": offset, "canvas": 36, "seed": seed}
    drawn: dict[Split, Examples] = {
        "train": draw_pairs(train_digits[train], train_labels[train], pairs, **draw),
        "validation": draw_pairs(train_digits[validation], train_labels[validation], judged, **draw),
        "test": draw_pairs(test_digits, test_labels, judged, **draw),
    }
    return {split: (_shrink(images), *labels) for split, (images, *labels) in drawn.items()}


def _shrink(images: Tensor) -> Tensor:  # (n, 36, 36) uint8 -> (n, 28, 28) float32 in [0, 1]
    chunks = images.unsqueeze(1).split(5000)
    small = [functional.interpolate(c.float(), (28, 28), mode="bilinear", antialias=True) for c in chunks]
    return torch.cat(small).squeeze(1).div_(255)
