"""digits-pairs: two handwritten digits of 8 x 8 pixels in one image; needs no download.

Data: Optical Recognition of Handwritten Digits (E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, 1998), the 1,797 images that scikit-learn ships. Licence: CC BY 4.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import nn

from equipoise.core.card import Card
from equipoise.core.problem import Split
from equipoise.problems.data import digits
from equipoise.problems.inmemory import Examples, parts
from equipoise.problems.pairs import SIDES, Pairs, draw_pairs
from equipoise.problems.trunk import Trunk

CARD = Card(
    name="digits-pairs",
    shape="problem",
    summary="Two small handwritten digits overlaid in one image, each to be named; no download.",
    title="Optical Recognition of Handwritten Digits",
    authors=("Ethem Alpaydin", "Cenk Kaynak"),
    venue="UCI Machine Learning Repository",
    year=1998,
    doi="10.24432/C50P49",
    cost="375 steps of a two-layer trunk with two heads a trial",
    use="for a first look, and to try a rule of your own",
    avoid="for figures to compare with the literature's",
)


@dataclass
class DigitsPairs(Pairs):
    """Name two overlaid digits of 8 x 8 pixels with one small trunk, too narrow for both.

    The digits are dealt 60 : 20 : 20 into training, validation and test before any is paired, so that
    no digit of one split is seen in another.

    Options: `pairs` to train on, `judged` pairs each for validation and test, `offset` of the right
    digit in pixels (the smaller, the harder), `width` of the trunk.

    >>> problem = DigitsPairs(pairs=256)
    >>> images, left, right = next(iter(problem.batches("train", None)))
    >>> tuple(images.shape), tuple(left.shape)
    ((128, 11, 11), (128,))
    """

    epochs: ClassVar[int] = 5
    learning_rates: ClassVar[tuple[float, ...]] = (0.03, 0.1, 0.3)

    pairs: int = 9600
    judged: int = 2000
    offset: int = 3
    width: int = 32

    def splits(self) -> Mapping[Split, Examples]:
        return _splits(self.pairs, self.judged, self.offset, self.split_seed)

    def model(self) -> nn.Module:
        trunk = nn.Sequential(
            nn.Flatten(),
            nn.Linear((8 + self.offset) ** 2, self.width),
            nn.ReLU(),
            nn.Linear(self.width, self.width),
            nn.ReLU(),
        )
        return Trunk(trunk, SIDES, width=self.width, outputs=10)


@lru_cache(maxsize=2)
def _splits(pairs: int, judged: int, offset: int, seed: int) -> dict[Split, Examples]:
    images, labels = digits()
    pixels = torch.from_numpy(images).float().div(16).reshape(-1, 8, 8)
    names = torch.from_numpy(labels).long()
    train, validation, test = parts(len(pixels), (0.6, 0.2), seed)
    plan: dict[Split, tuple[torch.Tensor, int]] = {
        "train": (train, pairs),
        "validation": (validation, judged),
        "test": (test, judged),
    }
    return {
        split: draw_pairs(pixels[part], names[part], count, offset=offset, canvas=8 + offset, seed=seed)
        for split, (part, count) in plan.items()
    }
