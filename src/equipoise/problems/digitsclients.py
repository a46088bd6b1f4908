"""digits-clients: handwritten digits of 8 x 8 pixels, dealt to clients; needs no download.

Data: Optical Recognition of Handwritten Digits (E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, 1998), the 1,797 images that scikit-learn ships. Licence: CC BY 4.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.problem import Split
from equipoise.problems.clients import Clients, Network
from equipoise.problems.data import digits
from equipoise.problems.inmemory import parts

CARD = Card(
    name="digits-clients",
    shape="federation",
    summary="Small handwritten digits at ten clients, three of whom see them turned; no download.",
    title="Optical Recognition of Handwritten Digits",
    authors=("Ethem Alpaydin", "Cenk Kaynak"),
    venue="UCI Machine Learning Repository",
    year=1998,
    doi="10.24432/C50P49",
    cost="100 training images of 64 pixels a client; 4,810 parameters",
    use="for a first look at what a federated system does to the worst client",
    avoid="for figures to compare with the literature's",
)


@dataclass
class DigitsClients(Clients):
    """Digits of 8 x 8 pixels at several clients; a 64-64-10 network or softmax regression.

    The images are dealt 60 : 20 : 20 into training (1,078), validation (359) and test, before the clients
    get any. Options: those of `Clients`; `network` is "mlp" or "softmax".

    >>> federation = DigitsClients(split="classes")
    >>> images, labels = federation.examples("client-00", "train")
    >>> tuple(images.shape[1:]), len(labels.unique())
    ((1, 8, 8), 2)
    """

    shape: ClassVar[tuple[int, int, int]] = (1, 8, 8)
    networks: ClassVar[tuple[Network, ...]] = ("softmax", "mlp")

    def parts(self) -> Mapping[Split, tuple[Tensor, Tensor]]:
        return _parts(self.split_seed)

    def scaled(self, images: Tensor) -> Tensor:  # (n, 64) of 0 to 16 -> (n, 1, 8, 8) in [0, 1]
        return images.float().div(16).reshape(-1, 1, 8, 8)


@lru_cache(maxsize=2)
def _parts(seed: int) -> dict[Split, tuple[Tensor, Tensor]]:
    images, labels = (torch.from_numpy(array) for array in digits())
    train, validation, test = parts(len(images), (0.6, 0.2), seed)
    dealt: dict[Split, Tensor] = {"train": train, "validation": validation, "test": test}
    return {split: (images[rows], labels[rows].long()) for split, rows in dealt.items()}
