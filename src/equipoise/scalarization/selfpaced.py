"""Self-paced weighting: easy objectives first, the hard ones as training goes on."""

from math import log

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.rule import LossesAfter, Scalarizer
from equipoise.core.step import Step

CARD = Card(
    name="SelfPaced",
    shape="scalarizer",
    summary="Starts with the objectives of small loss and admits the others as the pace grows.",
    formula="min_w sum_i w_i f_i + lambda sum_i w_i log(m w_i) = -lambda log mean_i exp(-f_i / lambda)",
    title="Self-Paced Multitask Learning with Shared Knowledge",
    authors=("Keerthiram Murugesan", "Jaime Carbonell"),
    venue="IJCAI",
    year=2017,
    arxiv="1703.00977",
    guarantees=("PERMUTATION", "SIMPLEX", "NON_NEGATIVE", "STATEFUL"),
    single="the direction itself",
    cost="one backward pass",
    use="where hard objectives are better learned on what the easy ones have taught",
    avoid="for losses of different units: a small unit then counts as easy",
    status="experimental",
)


class SelfPaced(Scalarizer):
    """The losses under the weights that favour the easy objectives, at a pace that grows.

    min_w sum_i w_i f_i + lambda sum_i w_i log(m w_i) over the simplex, with f `losses`: the weights are
    softmax(-f / lambda), the value is -lambda log mean exp(-f / lambda). The pace lambda starts at `pace` and
    is multiplied by `growth` at the end of each epoch: first the smallest loss alone trains, at last all
    alike. It is the mirror image of SmoothTchebycheff, which favours the worst.

    Use it where easy objectives prepare for hard ones. Not for losses of different units; the pace is in the
    unit of the losses.

    It moves at the call of `update` with epoch_ended=True. Raises ValueError for a pace that is not positive
    and for a growth below 1. Source: Murugesan and Carbonell 2017, task selection; the entropy as
    regulariser and the two defaults are our reading.

    >>> rule = SelfPaced()
    >>> losses = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> torch.autograd.grad(rule(losses), losses)
    (tensor([0.7311, 0.2689]),)
    """

    lambda_: Tensor

    def __init__(self, *, pace: float = 1.0, growth: float = 1.1) -> None:
        super().__init__()
        if not pace > 0:
            raise ValueError(f"pace is {pace}; it must be positive")
        if not growth >= 1:
            raise ValueError(f"growth is {growth}; it is 1 (a fixed pace) or more")
        self.growth = growth
        self.register_buffer("lambda_", torch.tensor(pace, dtype=torch.float64))

    def extra_repr(self) -> str:
        return f"growth={self.growth}"

    def forward(self, losses: Tensor) -> Tensor:  # (m,) -> ()
        pace = float(self.lambda_)
        least = losses.detach().amin()
        behind = (losses - least) / pace
        return least - pace * ((-behind).logsumexp(0) - log(losses.numel()))

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        if epoch_ended:
            self.lambda_.mul_(self.growth)
