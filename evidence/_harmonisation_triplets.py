"""Triplets of three modalities of a handwritten digit, some of them misaligned, and an encoder for them.

Modalities: the upper half of the image ("sight"), the lower half ("sound"), the letters of the digit's
name ("text"). In part of the training triplets the sound or the text is that of another image.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MODALITIES = ("sight", "sound", "text")
SPLITS = (997, 400, 400)  # training, validation, test
TEMPERATURE = 0.2

Triplet = Mapping[str, Tensor]


def letters() -> Tensor:  # -> (10, 26)
    """How often each letter occurs in the name of each digit."""
    return torch.tensor([[name.count(chr(97 + i)) for i in range(26)] for name in NAMES]).float()


@dataclass(frozen=True)
class Triplets:
    """Three modalities of n images by name, the digit on each image, and whether they belong together."""

    views: Triplet
    labels: Tensor
    misaligned: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, picks: Tensor) -> Triplet:
        return {name: view[picks] for name, view in self.views.items()}


def triplets(seed: int, share: float) -> tuple[Triplets, Triplets, Triplets]:
    """Training, validation and test; `share` of the training triplets are misaligned, half in sound."""
    data = load_digits()
    drawn = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(data.target), generator=drawn)
    images = torch.from_numpy(data.data).float().div(16)[order]
    labels = torch.from_numpy(data.target).long()[order]
    found = []
    for number, start in enumerate(np.cumsum((0, *SPLITS[:-1]))):
        part = slice(start, start + SPLITS[number])
        count = SPLITS[number]
        sound, text = images[part, 32:], letters()[labels[part]]
        misaligned = torch.zeros(count, dtype=torch.bool)
        if number == 0:
            wrong = torch.randperm(count, generator=drawn)[: round(share * count)]
            half = len(wrong) // 2
            others = torch.randint(count, (len(wrong),), generator=drawn)
            sound[wrong[:half]] = images[part, 32:][others[:half]].clone()
            text[wrong[half:]] = letters()[labels[part]][others[half:]]
            misaligned[wrong] = True
        views = {"sight": images[part, :32], "sound": sound, "text": text}
        found.append(Triplets(views, labels[part], misaligned))
    return found[0], found[1], found[2]


class Encoder(nn.Module):
    """A linear layer for each modality, and one trunk that all of them share."""

    def __init__(self, width: int = 48, outputs: int = 24) -> None:
        super().__init__()
        sizes = {"sight": 32, "sound": 32, "text": 26}
        self.own = nn.ModuleDict({name: nn.Linear(size, width) for name, size in sizes.items()})
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, outputs)

    def features(self, name: str, view: Tensor) -> Tensor:  # (n, k) -> (n, width)
        return self.hidden(self.own[name](view).relu()).relu()

    def forward(self, name: str, view: Tensor) -> Tensor:  # (n, k) -> (n, outputs)
        return functional.normalize(self.out(self.features(name, view)), dim=1)

    def trunk(self) -> list[nn.Parameter]:
        return [*self.hidden.parameters(), *self.out.parameters()]


def alignment(model: Encoder, batch: Triplet) -> Tensor:  # -> (n, 2)
    """Contrastive loss of each triplet, sight against sound and sight against text, both ways round."""
    sight, sound, text = (model(name, batch[name]) for name in MODALITIES)
    own = torch.arange(len(sight))
    found = []
    for other in (sound, text):
        scores = sight @ other.T / TEMPERATURE
        ways = [functional.cross_entropy(one, own, reduction="none") for one in (scores, scores.T)]
        found.append(sum(ways) / 2)
    return torch.stack(found, 1)


@torch.no_grad()
def judged(model: Encoder, train: Triplets, held_out: Triplets) -> dict[str, float]:
    """Accuracy of a linear probe on the sight features, and of naming a sight by the nearest text."""
    inputs = [model.features("sight", part.views["sight"]).numpy() for part in (train, held_out)]
    probe = LogisticRegression(max_iter=500).fit(inputs[0], train.labels.numpy())
    nearest = (model("sight", held_out.views["sight"]) @ model("text", letters()).T).argmax(1)
    return {
        "probe": 100 * float(probe.score(inputs[1], held_out.labels.numpy())),
        "naming": 100 * float((nearest == held_out.labels).double().mean()),
    }
