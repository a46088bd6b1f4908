"""FedAvgM: momentum at the server."""

from equipoise.core.card import Card
from equipoise.core.checks import check_positive, check_share
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.serveralgorithm import Outcome, Round, ServerAlgorithm

CARD = Card(
    name="FedAvgM",
    shape="federated",
    summary="Averages as FedAvg does, and lets the server go on in the direction of past rounds.",
    formula="m <- beta m + sum_k (n_k / n) (w_k - w), w <- w + eta m",
    title="Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
    authors=("Tzu-Ming Harry Hsu", "Hang Qi", "Matthew Brown"),
    venue="arXiv",
    year=2019,
    arxiv="1909.06335",
    guarantees=("PERMUTATION",),
    single="momentum over its own updates",
    cost="FedAvg's messages; one number a parameter at the server",
    use="where labels are skewed or few clients take part, so that one round's mean is noisy",
    avoid="with a large learning rate: in the long run updates count 1 / (1 - beta) times",
    status="main",
)


class FedAvgM(Algorithm):
    """Momentum at the server, over rounds.

    m <- beta m + D and w <- w + eta m, with D the mean of the updates, weighted by examples, beta
    `momentum` and eta `learning_rate` of the server. With beta = 0 it is FedAvg. The state holds m, in each
    block's dtype. Absent clients only change who is averaged.

    Raises ValueError for a rate that is not positive or a momentum outside [0, 1).
    Source: Hsu, Qi and Brown 2019, where it has the name FedAvgM.
    """

    def __init__(self, *, learning_rate: float = 1.0, momentum: float = 0.9) -> None:
        super().__init__(ClientAlgorithm(), MomentumServer(learning_rate=learning_rate, momentum=momentum))


class MomentumServer(ServerAlgorithm):
    """The mean update, gathered over rounds."""

    def __init__(self, *, learning_rate: float, momentum: float) -> None:
        check_positive(learning_rate=learning_rate)
        check_share(momentum=momentum)
        self.learning_rate = learning_rate
        self.momentum = momentum

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        return {f"momentum/{name}": tensor.new_zeros(tensor.shape) for name, tensor in parameters.items()}

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        weights = round.shares
        gathered = {
            f"momentum/{name}": self.momentum * state[f"momentum/{name}"] + change
            for name, change in round.bundle.combine(weights).items()
        }
        update = {name: self.learning_rate * gathered[f"momentum/{name}"] for name in round.bundle.blocks}
        return Outcome(update, gathered, weights)
