"""Federation: clients with data of their own, and the one model they train together."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from equipoise.core.problem import Metric, Split

Examples = tuple[Tensor, ...]
"""Inputs and targets, each with the examples along its first dimension; the targets stand last."""


@dataclass
class Federation(ABC):
    """Named clients, the examples of each, one model, and a loss and a score for every example.

    A subclass is a dataclass; its fields are what `--set key=value` sets. Objects are built anew in other
    processes (each node of a deployment has one), so the constructor must be cheap, `prepare` loads data,
    and the same fields must give the same clients with the same examples everywhere.
    """

    metric: ClassVar[Metric] = Metric("accuracy", "higher")
    learning_rate: ClassVar[float] = 0.1
    """The rate of local steps where the user names none."""

    @property
    @abstractmethod
    def clients(self) -> tuple[str, ...]:
        """The names of all clients, in an order that never changes."""

    def prepare(self) -> None:  # noqa: B027 - most federations override it, none has to
        """Load the data, once in each process, before `examples` is called."""

    @abstractmethod
    def model(self) -> nn.Module:
        """A new model; the caller has seeded torch's generator."""

    @abstractmethod
    def examples(self, client: str, split: Split) -> Examples:
        """What one client holds of a split; cached, so that a second call costs nothing."""

    def losses(self, model: nn.Module, batch: Examples) -> Tensor:  # -> (n,)
        """The loss of each example of a batch; cross-entropy of the model's logits unless overridden.

        No example's loss may depend on another example of the batch: batches are padded.
        """
        return nn.functional.cross_entropy(model(*batch[:-1]), batch[-1], reduction="none")

    def scores(self, model: nn.Module, batch: Examples) -> Tensor:  # -> (n,)
        """What `metric` is the mean of, for each example; 1 where the largest logit is the target."""
        return (model(*batch[:-1]).argmax(-1) == batch[-1]).to(torch.get_default_dtype())

    def label_counts(self, client: str) -> Tensor:  # -> (classes,)
        """How many training examples of each class a client holds, int64; classes as in all clients.

        Raises ValueError where the targets are not whole numbers from 0.
        """
        return torch.bincount(self.examples(client, "train")[-1], minlength=self._classes)

    @cached_property
    def _classes(self) -> int:
        most = 0
        for name in self.clients:
            target = self.examples(name, "train")[-1]
            if target.is_floating_point() or target.dim() != 1 or bool((target < 0).any()):
                raise ValueError(f"the targets of client {name!r} are no classes, so they have no histogram")
            most = max(most, 1 + int(target.max()) if len(target) else 0)
        return most
