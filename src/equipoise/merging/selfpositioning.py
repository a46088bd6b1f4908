"""SelfPositioning: direction and length of the combined task vector, by descent on a few labelled samples."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.core.card import Card
from equipoise.merging.calibrate import evaluating
from equipoise.merging.combined import Coefficients, Combined, turns
from equipoise.merging.merge import Model

CARD = Card(
    name="SelfPositioning",
    shape="system",
    summary="Finds direction and length of the combined task vector on a small balanced probe set",
    formula="min_{a, s} mean_k L_k(theta_0 + s sum_i w_i (theta_i - theta_0)), w = softmax(a)",
    title="Improving General Text Embedding Model: Tackling Task Conflict and Data Imbalance"
    " through Model Merging",
    authors=("Li", "Nie", "Zhang", "Long", "Zhang", "Xie"),
    venue="arXiv",
    year=2024,
    arxiv="2410.15035",
    cost="steps forward and backward passes of a batch of each task; memory of m + 1 models",
    use="a few labelled samples of every task; tasks trained on unlike amounts of data",
    avoid="without labels (AdaMerging); where layers ask for weights of their own",
    single="the base moved towards the model by the length that lowers its loss",
    status="experimental",
    evidence="merging",
)

Loss = Callable[[nn.Module, str, Any], Tensor]
"""The scalar loss of a model on a task's batch."""


@dataclass(frozen=True)
class Positioned:
    """What SelfPositioning found.

    direction: model -> w, which sum to 1. length: s; 1 is the plain interpolation of the models. method: the
    weights s w, for `merge`. losses: the mean loss over tasks, step by step, before the step.
    """

    method: Coefficients
    direction: Mapping[str, float]
    length: float
    losses: tuple[float, ...]

    @property
    def weights(self) -> Mapping[str, float]:
        """Model -> s w."""
        return {name: self.length * share for name, share in self.direction.items()}


@dataclass(frozen=True)
class SelfPositioning:
    """Finds theta_0 + s sum_i w_i delta_i of least mean loss over the tasks, on a small probe set.

    The direction w = softmax(a) is a place in the interpolation of the models, the length s = exp(b) says how
    far to go along it; a and b are found by stochastic gradient descent from w = 1 / m and s = `length`, on a
    batch of every task in each step, so that all count alike however much data each was trained on.

    Use it with a few labelled samples of each task. Not without labels.

    Raises ValueError for options that are not positive and for what `Combined` refuses.

    Source: Li et al. 2024. Our reading, from the abstract: the soft-max, the factor s, and Adam, whose steps
    do not depend on the scale of the losses, in the place of plain descent.

    >>> SelfPositioning().steps
    150
    """

    length: float = 1.0
    learning_rate: float = 0.05
    steps: int = 150

    def __post_init__(self) -> None:
        for name in ("length", "learning_rate", "steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"SelfPositioning: {name} is {getattr(self, name)}; it must be positive")

    def fit(
        self,
        model: nn.Module,
        checkpoints: Mapping[str, Model] | Sequence[Model],
        base: Model,
        batches: Mapping[str, Iterable[Any]],
        loss: Loss,
    ) -> Positioned:
        """Find the weights; `merge(checkpoints, base, method=found.method)` then writes the model.

        batches: task -> its batches of the probe set, gone through again and again. loss(model, task, batch)
        is a scalar. The model lends its structure, in evaluation mode, and stays as it is.
        """
        combined = Combined(model, checkpoints, base)
        m = len(combined.names)
        position = torch.zeros(m, requires_grad=True)  # a
        logarithm = torch.tensor(math.log(self.length), requires_grad=True)  # b
        optimizer = torch.optim.Adam([position, logarithm], lr=self.learning_rate)
        running, losses = turns(batches), []
        with evaluating(model):
            for _ in range(self.steps):
                turn = next(running)
                mean = combined.call(
                    lambda held, turn=turn: (
                        sum(loss(held, task, batch) for task, batch in turn.items()) / len(turn)
                    ),
                    (logarithm.exp() * position.softmax(0))[None],
                )
                if not mean.isfinite():
                    raise ValueError(
                        f"SelfPositioning: the loss is {mean.item()} after {len(losses)} steps; "
                        "give a lower learning_rate or length"
                    )
                losses.append(mean.item())
                optimizer.zero_grad()
                mean.backward(inputs=[position, logarithm])
                optimizer.step()
        shares, length = position.detach().double().softmax(0), logarithm.item()
        method = combined.coefficients((math.exp(length) * shares)[None])
        direction = dict(zip(combined.names, shares.tolist(), strict=True))
        return Positioned(method, direction, math.exp(length), tuple(losses))
