"""The losses by which a server weighs clients: of the model they received, or over their local steps."""

from typing import Literal, get_args

from torch import Tensor

from equipoise.core.errors import check_choice
from equipoise.federated.serveralgorithm import Ask, Round, ServerAlgorithm

Losses = Literal["before", "during"]


class ByLosses(ServerAlgorithm):
    """A server that weighs clients by their losses.

    losses: "before" is the loss of the model received on all training examples of a client, for which it
    looks at them once more; "during" the mean over its local steps, which comes for free, and of
    which a batch size smaller than its data makes a noisier one.
    """

    def __init__(self, *, losses: Losses) -> None:
        check_choice("losses", losses, get_args(Losses))
        self.losses: Losses = losses

    @property
    def asks(self) -> tuple[Ask, ...]:  # pyright: ignore[reportIncompatibleVariableOverride] - an option decides
        return ("loss",) if self.losses == "before" else ()

    def losses_of(self, round: Round) -> Tensor:  # -> (m,)
        """The losses of the clients that replied, float64 on the CPU."""
        return round.side["loss" if self.losses == "before" else "loss_during"].double().cpu()
