"""AdaptiveMoments: the server step that FedAdagrad, FedYogi and FedAdam have in common."""

from torch import Tensor

from equipoise.core.checks import check_not_negative, check_positive, check_share
from equipoise.federated.clientalgorithm import Tensors
from equipoise.federated.serveralgorithm import Outcome, Round, ServerAlgorithm

MEAN, SQUARE = "mean/", "square/"


class AdaptiveMoments(ServerAlgorithm):
    """Moves the server along a running mean of the updates, each entry over a running root of its square.

    A subclass says how the square is kept. Options and formula: `FedAdam`. The state holds the mean and the
    square of every block, in its dtype.

    Raises ValueError for an option that is out of range.
    """

    def __init__(
        self, *, learning_rate: float, beta_1: float, tau: float, first: float | None, beta_2: float = 0.0
    ) -> None:
        check_positive(learning_rate=learning_rate, tau=tau)
        check_share(beta_1=beta_1, beta_2=beta_2)
        if first is not None:
            check_not_negative(first=first)
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.tau = tau
        self.first = tau**2 if first is None else first

    def squared(self, before: Tensor, square: Tensor) -> Tensor:  # (*shape), (*shape) -> (*shape)
        """The running square, from that of before and the square of this round's update."""
        raise NotImplementedError

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        means = {MEAN + name: tensor.new_zeros(tensor.shape) for name, tensor in parameters.items()}
        squares = {
            SQUARE + name: tensor.new_full(tensor.shape, self.first) for name, tensor in parameters.items()
        }
        return means | squares

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        weights = round.shares
        update, after = {}, {}
        for name, change in round.bundle.combine(weights).items():
            mean = self.beta_1 * state[MEAN + name] + (1 - self.beta_1) * change
            square = self.squared(state[SQUARE + name], change**2)
            update[name] = self.learning_rate * mean / (square.sqrt() + self.tau)
            after |= {MEAN + name: mean, SQUARE + name: square}
        return Outcome(update, after, weights)
