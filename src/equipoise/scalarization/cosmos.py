"""COSMOS: the weighted mean of the losses, less a reward for standing on the preferred ray."""

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.preference import preference_like
from equipoise.core.rule import Scalarizer

CARD = Card(
    name="COSMOS",
    shape="scalarizer",
    summary="Minimises the weighted mean and turns the losses towards the preferred proportions.",
    formula="sum_i r_i f_i - lambda cos(r, f)",
    title="Scalable Pareto Front Approximation for Deep Multi-Objective Learning",
    authors=("Michael Ruchte", "Josif Grabocka"),
    venue="ICDM",
    year=2021,
    arxiv="2103.13392",
    guarantees=("PERMUTATION", "PREFERENCE"),
    single="the direction itself",
    cost="one backward pass",
    use="to spread the points of many preferences over the front, above all for one model that is told "
    "the preference",
    avoid="where losses are of very different size: the angle is then that of the largest loss, and lambda "
    "is in the unit of the losses",
    status="main",
)


class COSMOS(Scalarizer):
    """The mean of the losses weighted by the preference, less lambda times their cosine with it.

    sum_i r_i f_i - lambda cos(r, f) with f `losses`, r `preference` (uniform, 1/m, by default) and lambda
    `lambda_`. The two terms pull apart where r is uneven: the first makes a preferred loss small, the
    second makes it the larger share, and which one rules depends on the size of the losses.

    Use it to spread solutions over a front. Not with losses of very different size. A weight may be
    negative, and near the ideal point the cosine turns fast: its derivative grows as 1 / |f|.

    Where all losses are zero the cosine counts as 0, without a derivative. Raises ValueError for a negative
    lambda. Source: Ruchte and Grabocka 2021, the objective alone (in the paper the network is also given
    r, drawn from a Dirichlet distribution); lambda_=2 as in their code for multi-MNIST, where they tune
    it between 0.01 and 8.

    >>> COSMOS()(torch.tensor([3.0, 4.0]), preference=torch.tensor([0.6, 0.4]))
    tensor(1.5140)
    """

    def __init__(self, *, lambda_: float = 2.0) -> None:
        super().__init__()
        if not lambda_ >= 0:
            raise ValueError(f"lambda_ is {lambda_}; a reward is 0 or more, and 0 is Linear")
        self.lambda_ = lambda_

    def extra_repr(self) -> str:
        return f"lambda_={self.lambda_}"

    def forward(self, losses: Tensor, *, preference: Tensor | None = None) -> Tensor:  # (m,), (m,) -> ()
        chosen = preference_like(preference, losses)
        mean = (chosen * losses).sum()
        size = losses.detach().abs().amax()
        if not bool(size > 0):
            return mean
        unit = losses / size
        cosine = (unit @ chosen) / (torch.linalg.vector_norm(unit) * torch.linalg.vector_norm(chosen))
        return mean - self.lambda_ * cosine
