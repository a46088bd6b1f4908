"""mnist-clients: MNIST digits dealt to clients.

Data: MNIST (Y. LeCun, C. Cortes and C. Burges), `$EQUIPOISE_DATA/mnist/mnist.npz` with x_train
(60000, 28, 28), y_train, x_test and y_test, or OpenML's data set 554. Licence: commonly stated as
CC BY-SA 3.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.problem import Split
from equipoise.problems.clients import Clients
from equipoise.problems.data import data_of
from equipoise.problems.inmemory import parts
from equipoise.problems.mnist import read_mnist

CARD = Card(
    name="mnist-clients",
    shape="federation",
    summary="MNIST digits at ten clients, three of whom see them turned.",
    title="Adaptive Online Mirror Descent for Tchebycheff Scalarization in Multi-Objective Learning",
    authors=("Meitong Liu", "Xiaoyuan Zhang", "Chulin Xie", "Kate Donahue", "Han Zhao"),
    venue="TMLR",
    year=2026,
    arxiv="2410.21764",
    cost="200 training images of 784 pixels a client; 159,010 parameters",
    use="to compare federated systems on the data that most of their papers use",
    avoid="for figures to set beside a paper's: by default ten clients hold 2,000 images together",
)


@dataclass
class MnistClients(Clients):
    """MNIST at several clients; a 784-200-10 network, LeNet or softmax regression.

    By default the rotation of Liu et al. (2026): seven of ten clients hold upright digits, two hold them
    turned by 90 degrees, one by 180. Training and validation digits come from MNIST's training images,
    55,000 and 5,000 of them, dealt before the clients get any; test digits from its test images.

    Options: those of `Clients` (`train` 55000 for full size; with a thousand clients
    `judged` 20, for each holds copies of its own); `download`.
    """

    hidden: ClassVar[int] = 200
    shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)

    train: int = 2000
    judged: int = 200
    download: bool = False

    def parts(self) -> Mapping[Split, tuple[Tensor, Tensor]]:
        path = data_of("mnist-clients", download=self.download, instead="digits-clients")
        return _parts(path, self.split_seed)

    def scaled(self, images: Tensor) -> Tensor:  # (n, 28, 28) uint8 -> (n, 1, 28, 28) in [0, 1]
        return images.unsqueeze(1).float().div(255)


@lru_cache(maxsize=1)
def _parts(path: Path | None, seed: int) -> dict[Split, tuple[Tensor, Tensor]]:
    images, digits, test_images, test_digits = read_mnist(path)
    validation, train = parts(len(images), (1 / 12,), seed)
    (test,) = parts(len(test_images), (), seed)
    return {
        "train": (images[train], digits[train]),
        "validation": (images[validation], digits[validation]),
        "test": (test_images[test], test_digits[test]),
    }
