"""ClientAlgorithm: what a client descends, and what it sends. It knows nothing of transport.

Its methods are written for one client. The engine calls them for one after the other, or for many at once
under `torch.func.vmap`: they are made of tensor operations alone, and change nothing they are given.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from equipoise.core.federation import Federation
from equipoise.federated.local import Local

Tensors = dict[str, Tensor]
"""Tensors by name; those of a model by the names of its parameters."""


class Loss(Protocol):
    """The loss of one client on the batch of a step, as a function of the parameters."""

    federation: Federation

    def __call__(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The mean loss over the examples, differentiable, also twice."""
        ...

    def call(self, function: Callable[..., Any], parameters: Mapping[str, Tensor]) -> Any:
        """`function(model, batch)` with these parameters in the model."""
        ...

    def mean(self, values: Tensor) -> Tensor:  # (n,) -> ()
        """The mean over the examples of a batch, without its padding."""
        ...


@dataclass(frozen=True, slots=True)
class View:
    """What a client sees in a round.

    anchor: the parameters it received. kept: what it has kept since its last round. context: what the server
    sent besides. rate: the learning rate. steps, samples: scalars, how many local steps it takes and how many
    training examples it has. drawn: random numbers for this step, as `draw` gave them. local: how clients
    train.
    """

    anchor: Tensors
    kept: Tensors
    context: Tensors
    rate: float
    steps: Tensor
    samples: Tensor
    drawn: Tensors = field(default_factory=dict)
    local: Local = field(default_factory=Local)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client has at the end of a round.

    update: parameters less the anchor, or {} where something else is sent. sent: further tensors of any
    dtype. kept: what it keeps for its next round, under the names of before.
    """

    update: Tensors
    sent: Tensors
    kept: Tensors


class ClientAlgorithm:
    """Plain local descent; a subclass overrides what it does otherwise.

    `batched` says whether the methods go through `torch.func.vmap`; where not, clients are trained one
    after the other.
    """

    batched: ClassVar[bool] = True

    def start(self, parameters: Tensors) -> Tensors:
        """What a client keeps before its first round; `parameters` are those of the first model."""
        return {}

    def receive(self, received: Tensors, kept: Tensors, context: Tensors) -> Tensors:
        """The parameters that the round starts from; those received, unless the client has its own."""
        return received

    def probe(self, loss: Loss, parameters: Tensors) -> Tensors:
        """What a client measures of the model it received on all of its training examples, before it trains.

        It is sent beside the reply. Called for one client at a time, outside of vmap; the parameters
        require gradients.
        """
        return {}

    def draw(self, parameters: Tensors, examples: int, generator: torch.Generator) -> Tensors:
        """Random numbers for one step on a batch of `examples`; called outside of vmap."""
        return {}

    def objective(self, loss: Loss, parameters: Tensors, view: View) -> tuple[Tensor, Tensor]:
        """What a step descends, and the loss on the data alone, which is reported."""
        value = loss(parameters)
        return value, value

    def correct(self, gradient: Tensors, parameters: Tensors, view: View) -> Tensors:
        """The gradient that a step follows, in place of the objective's."""
        return gradient

    def reply(self, parameters: Tensors, view: View) -> Reply:
        """What is sent and kept after the last step."""
        return Reply(difference(parameters, view.anchor), {}, view.kept)


def difference(ends: Tensors, starts: Tensors) -> Tensors:
    """ends - starts, by name."""
    return {name: end - starts[name] for name, end in ends.items()}
