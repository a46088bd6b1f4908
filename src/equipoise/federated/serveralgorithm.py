"""ServerAlgorithm: how the replies of a round become the next model. It knows nothing of transport."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from equipoise.core.bundle import Bundle
from equipoise.core.ordered import middle
from equipoise.federated.clientalgorithm import Tensors
from equipoise.federated.local import Local

Ask = Literal["loss", "gradient_norm", "label_counts"]


@dataclass(frozen=True, slots=True)
class Round:
    """What the server has at the end of a round.

    number: counted from 1. everyone: all clients. parameters: the model that was sent. bundle: the updates
    of the m clients that replied, local parameters less those received, blocks named as the parameters
    (none where the clients send something else). sent: further tensors (m, ...). side: numbers (m,) or
    (m, k), float64: "samples", "steps", "loss_during" (mean over the local steps) and what
    the server asks for: "loss" and "gradient_norm" of the received model on all training examples of a
    client, "label_counts". chances (m,): with what probability each of the m replies in a round. local: how
    clients trained.
    """

    number: int
    everyone: tuple[str, ...]
    parameters: Tensors
    bundle: Bundle
    sent: Tensors
    side: Mapping[str, Tensor]
    chances: Tensor
    local: Local = field(default_factory=Local)

    @property
    def names(self) -> tuple[str, ...]:
        """The clients that replied."""
        return self.bundle.names

    @property
    def shares(self) -> Tensor:  # -> (m,)
        """The part of each client in the examples of those that replied; the sum is 1."""
        samples = self.side["samples"]
        return samples / samples.sum()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round comes to.

    update: added to the parameters. state: what the server keeps. weights (m,): of each reply in the
    update, for the history, where there are such. notes: further numbers and words for the history.
    """

    update: Tensors
    state: Tensors
    weights: Tensor | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


class ServerAlgorithm:
    """From the replies of a round to the next model; a subclass overrides `aggregate` at least.

    The server's memory is a flat mapping of tensors that is handed in and handed back: nothing of it is
    changed in place, so that a round either happened or did not, and a checkpoint is that mapping.

    `asks` names what clients are to measure of the model they receive, before they train.
    `sends_model` is False where clients keep a model of their own and the server sends `context` alone.
    """

    asks: ClassVar[tuple[Ask, ...]] = ()
    sends_model: ClassVar[bool] = True

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        """The state before the first round."""
        return {}

    def received(self, state: Tensors, parameters: Tensors, client: str) -> Tensors:
        """The parameters that a client is sent; the model's, unless each has its own."""
        return parameters

    def context(self, state: Tensors, client: str) -> Tensors:
        """What a client is sent besides, the same names and shapes for every client."""
        return {}

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        """The update, and the next state."""
        raise NotImplementedError

    def buffers(self, round: Round, outcome: Outcome, rows: Tensors) -> Tensors:
        """The model's floating-point buffers, such as the statistics of BatchNorm, from those of the clients,
        rows (m, *shape): their mean by examples. A server that distrusts clients does otherwise; what is not
        among the names of the answer stays as it was."""
        return mean_rows(round.shares, rows)

    def outputs(self, state: Tensors, parameters: Tensors) -> dict[str, Tensors]:
        """Further models that the state holds, by name, such as an average of iterates; the last one
        is always reported."""
        return {}


def mean_rows(weights: Tensor, rows: Tensors) -> Tensors:  # (m,), (m, *shape) -> (*shape)
    """The mean of what clients sent under each name, by weights of 0 or more that are scaled to sum 1."""
    shares = weights / weights.sum()
    return {name: torch.tensordot(shares.to(held), held, 1) for name, held in rows.items()}


def median_rows(rows: Tensors) -> Tensors:  # (m, *shape) -> (*shape)
    """The median of what clients sent under each name, number by number."""
    return {name: middle(held.reshape(len(held), -1)).view(held.shape[1:]) for name, held in rows.items()}
