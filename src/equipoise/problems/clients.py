"""Clients of one image data set: dealt by a chosen split, judged on data like their own."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from equipoise.core.errors import check_choice, unknown
from equipoise.core.federation import Examples, Federation
from equipoise.core.problem import Split
from equipoise.problems import partitions

Deal = Literal["rotation", "classes", "dirichlet", "quantity", "iid", "biased"]
Network = Literal["softmax", "mlp", "lenet"]
Precision = Literal["float32", "float64"]


@dataclass
class Clients(Federation):
    """Clients named client-00, client-01 ..., each with its share of one set of labelled images.

    A subclass says where the images come from (`parts`, `scaled`) and how large its network is (`hidden`).
    Examples are (images (n, channels, s, s) of the dtype, labels (n,) int64).

    Options: `client_count`; `split`, how training examples are dealt:

    - "rotation": evenly; of ten clients seven see images upright, two turned by 90 and one by 180 degrees;
    - "classes": `classes` classes each (McMahan et al. 2017);
    - "dirichlet": each class in Dirichlet(`alpha`) shares (Yurochkin et al. 2019);
    - "quantity": sizes in Dirichlet(`alpha`) shares, classes evenly (Li et al. 2022);
    - "biased": half of the clients hold all classes evenly, the others one class each;
    - "iid": evenly;

    `least` examples that "dirichlet" and "quantity" leave to each client; `train` examples in all, dealt to
    the clients; `judged` examples of each client for validation, and as many for test, whatever its
    share of the training examples, with its proportions of classes and its rotation (they come from
    images that nobody trains on; two clients share some only where the images do not suffice, and a client
    has fewer than `judged` where a class has not as many); `network`, "softmax", "mlp" or, where the images
    are large enough, "lenet"; `dtype`, "float32" or "float64"; `split_seed`, which images are for
    training, and who gets which.

    Raises ValueError for options that no data could satisfy, and from `prepare` or `examples` for those that
    these data do not.
    """

    hidden: ClassVar[int] = 64
    """Units of the hidden layer of "mlp"."""
    shape: ClassVar[tuple[int, int, int]]
    """Channels, height and width of an image."""
    networks: ClassVar[tuple[Network, ...]] = ("softmax", "mlp", "lenet")
    """The networks that fit these images."""
    label_names: ClassVar[int] = 10
    """How many classes there are."""

    client_count: int = 10
    split: Deal = "rotation"
    classes: int = 2
    alpha: float = 0.3
    least: int = 5
    train: int = 1000
    judged: int = 35
    network: Network = "mlp"
    dtype: Precision = "float32"
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_choice("split", self.split, get_args(Deal))
        check_choice("network", self.network, self.networks)
        check_choice("dtype", self.dtype, get_args(Precision))
        for name in ("client_count", "classes", "least", "train", "judged"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.split_seed < 0:
            raise ValueError(f"split_seed is {self.split_seed}; it must be at least 0")
        if self.classes > self.label_names:
            raise ValueError(f"classes is {self.classes}; there are {self.label_names}")
        partitions.check_alpha(self.alpha)

    @abstractmethod
    def parts(self) -> Mapping[Split, tuple[Tensor, Tensor]]:
        """All images, raw, and labels (n,) int64 of each split, in random order; cached."""

    @abstractmethod
    def scaled(self, images: Tensor) -> Tensor:
        """Raw images as the network takes them, (n, *shape) float32."""

    @property
    def clients(self) -> tuple[str, ...]:
        return _names(self.client_count)

    def prepare(self) -> None:
        _ = self._dealt

    def examples(self, client: str, split: Split) -> Examples:
        held = self._dealt
        if client not in held:
            raise ValueError(unknown("client", client, held))
        return held[client][split]

    def model(self) -> nn.Module:
        return build(self.network, self.shape, self.hidden, self.label_names).to(getattr(torch, self.dtype))

    @cached_property
    def _dealt(self) -> dict[str, dict[Split, Examples]]:
        parts = self.parts()
        _, labels = parts["train"]
        if self.train > len(labels):
            raise ValueError(f"train is {self.train}, but there are {len(labels)} training examples in all")
        labels = labels[: self.train]
        shares: dict[Split, list[Tensor]] = {"train": self._shares(labels)}
        counts = [torch.bincount(labels[own], minlength=self.label_names) for own in shares["train"]]
        for split in ("validation", "test"):
            shares[split] = partitions.in_proportion(
                parts[split][1], torch.stack(counts), self.judged, self.split_seed
            )
        turned = self.split == "rotation"
        turns = partitions.turns(self.client_count) if turned else [0] * self.client_count
        return {
            name: {split: self._own(parts[split], shares[split][k], turns[k]) for split in shares}
            for k, name in enumerate(self.clients)
        }

    def _shares(self, labels: Tensor) -> list[Tensor]:
        many, seed = self.client_count, self.split_seed
        match self.split:
            case "classes":
                return partitions.pathological(labels, many, self.classes, seed)
            case "dirichlet":
                return partitions.dirichlet(labels, many, self.alpha, seed, self.least)
            case "quantity":
                return partitions.quantity(len(labels), many, self.alpha, seed, self.least)
            case "biased":
                return partitions.biased(labels, many, seed)
            case _:
                return partitions.iid(len(labels), many, seed)

    def _own(self, part: tuple[Tensor, Tensor], share: Tensor, turns: int) -> Examples:
        images = partitions.rotated(self.scaled(part[0][share]), turns)
        return images.to(getattr(torch, self.dtype)).contiguous(), part[1][share]


@cache
def _names(count: int) -> tuple[str, ...]:
    width = max(2, len(str(count - 1)))
    return tuple(f"client-{number:0{width}d}" for number in range(count))


def build(network: Network, shape: tuple[int, int, int], hidden: int, classes: int) -> nn.Module:
    """A network from images (n, *shape) to logits (n, classes).

    "softmax" is one linear layer, "mlp" has one hidden layer of `hidden` ReLUs; "lenet" has two convolutions
    of 6 and 16 channels with 5 × 5 kernels, each halved by max pooling, then 120 and 84 units, after LeNet-5
    (LeCun et al. 1998) with ReLUs; images of 28 pixels are padded to 32, as there.

    >>> build("mlp", (1, 8, 8), 64, 10)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    channels, height, width = shape
    pixels = channels * height * width
    match network:
        case "softmax":
            return nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes))
        case "mlp":
            hidden_layer = nn.Linear(pixels, hidden)
            return nn.Sequential(nn.Flatten(), hidden_layer, nn.ReLU(), nn.Linear(hidden, classes))
        case "lenet":
            padding = (32 - height) // 2
            side = ((height + 2 * padding - 4) // 2 - 4) // 2
            return nn.Sequential(
                nn.Conv2d(channels, 6, 5, padding=padding),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(6, 16, 5),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(16 * side * side, 120),
                nn.ReLU(),
                nn.Linear(120, 84),
                nn.ReLU(),
                nn.Linear(84, classes),
            )
