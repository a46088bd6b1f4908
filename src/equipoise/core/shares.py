"""Shares: weights on the simplex that a rule moves from step to step."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise.core.keyed import Keyed, within
from equipoise.core.rule import LossesAfter, Rule
from equipoise.core.step import Step


class Shares(Keyed, Rule):
    """Weights of the objectives, kept by name and for each group of parameters; stands before the shape.

    A rule says with `moved` what a Gramian makes of the weights: `forward` gives that, `update` keeps it. At
    first all weights are equal. Of the objectives present the weights sum to one, whoever is absent. What
    they have of the weight of all is kept, so that one that is alone in a batch learns nothing from that;
    one never seen starts with the mean weight.
    """

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self.keep("shares", 1.0)  # times m, so that their mean is one for any m

    def moved(self, gramian: Tensor, names: Sequence[str], group: str = "") -> Tensor:  # (m, m) -> (m,)
        """The weights after a step on this Gramian."""
        raise NotImplementedError

    def shares_of(self, names: Sequence[str], group: str = "") -> Tensor:  # -> (m,) float64
        """The weights as they are."""
        kept = self.read("shares", within(group, names)).cpu()
        total = kept.sum()
        return kept / total if total > 0 else torch.full_like(kept, 1 / len(names))

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        names, _ = self.observed(step)
        places = [step.names.index(name) for name in names]
        for group, part in step.parts().items() if names else ():
            weights = self.moved(part.gramian[places][:, places], names, group)
            kept = within(group, names)
            self.write("shares", kept, weights * float(self.read("shares", kept).sum()))


def mean_square(gramian: Tensor) -> Tensor:  # (m, m) -> ()
    """The mean of the squared lengths, 1 where all are zero; of J1 J2' their sizes count."""
    size = gramian.diagonal().abs().mean()
    return size if size > 0 else torch.ones_like(size)
