"""Local: how a client trains between two messages."""

from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.core.checks import check_count, check_not_negative, check_positive, check_share


@dataclass(frozen=True, kw_only=True)
class Local:
    """The schedule of local training, the same for every client: stochastic gradient descent.

    epochs: passes over a client's training examples in a round.
    steps: steps in a round in place of `epochs`, passes beginning anew as often as it takes.
    batch_size: examples of a step, None for all that the client has.
    learning_rate, momentum, weight_decay: as in `torch.optim.SGD`; momentum begins at zero in each round.
    clip: the largest length of a gradient, None for no limit.
    decay: factor on the learning rate from round to round.

    Raises ValueError for a number that is out of range.
    """

    epochs: int = 1
    steps: int | None = None
    batch_size: int | None = 32
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = None
    decay: float = 1.0

    def __post_init__(self) -> None:
        counts = {"epochs": self.epochs, "steps": self.steps, "batch_size": self.batch_size}
        check_count(1, **counts)
        check_positive(learning_rate=self.learning_rate, decay=self.decay)
        if self.clip is not None:
            check_positive(clip=self.clip)
        check_share(momentum=self.momentum)
        check_not_negative(weight_decay=self.weight_decay)

    def rate(self, number: int) -> float:
        """The learning rate of a round, counted from 1."""
        return self.learning_rate * self.decay ** (number - 1)

    def lengths(self, steps: Tensor) -> Tensor:
        """How much of one gradient so many steps add up to, were it the same in all: |a_k|_1 of FedNova.

        K steps with momentum rho from a momentum of zero make (K - rho (1 - rho^K) / (1 - rho)) / (1 - rho),
        without momentum K.

        >>> Local(momentum=0.5).lengths(torch.tensor([1.0, 2.0, 3.0])).tolist()  # 1, 1 + 1.5, 1 + 1.5 + 1.75
        [1.0, 2.5, 4.25]
        """
        rho = self.momentum
        return (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho) if rho else steps

    def batches(self, count: int, generator: torch.Generator, effort: float = 1.0) -> list[Tensor]:
        """The examples of each step of a round, as indices below `count`, in an order drawn afresh.

        `effort` is the share of the steps that is done, rounded, one at least.

        >>> plan = Local(batch_size=2).batches(5, torch.Generator().manual_seed(0))
        >>> [len(batch) for batch in plan]
        [2, 2, 1]
        """
        size = min(self.batch_size or count, count)
        whole = -(-count // size)
        steps = self.steps if self.steps is not None else self.epochs * whole
        steps = max(1, round(effort * steps))
        if size == count:
            return [torch.arange(count)] * steps
        plan: list[Tensor] = []
        while len(plan) < steps:
            plan.extend(torch.randperm(count, generator=generator).split(size))
        return plan[:steps]
