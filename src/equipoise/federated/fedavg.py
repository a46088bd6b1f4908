"""FedAvg: the mean of the clients' models, weighted by their examples."""

from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.serveralgorithm import Outcome, Round, ServerAlgorithm

CARD = Card(
    name="FedAvg",
    shape="federated",
    summary="Averages the clients' models, weighted by how many examples each has.",
    formula="w <- w + eta sum_k (n_k / n) (w_k - w)",
    title="Communication-Efficient Learning of Deep Networks from Decentralized Data",
    authors=("H. Brendan McMahan", "Eider Moore", "Daniel Ramage", "Seth Hampson", "Blaise Aguera y Arcas"),
    venue="AISTATS",
    year=2017,
    arxiv="1602.05629",
    guarantees=("PERMUTATION",),
    single="local training",
    cost="the model down and up for each client and round",
    use="first; every other system is held against it",
    avoid="where clients differ much and take many local steps: their models drift apart",
    status="main",
    evidence="scaffold",
)


class FedAvg(Algorithm):
    """The weighted mean of the clients' models.

    Each client starts from the server's w and takes its local steps to w_k; the next model is
    w + eta sum_k (n_k / n) (w_k - w) over those that replied, n_k their training examples and eta
    `learning_rate` of the server, 1 in the paper.

    Raises ValueError for a learning rate that is not positive.
    Source: McMahan et al. 2017, algorithm 1.
    """

    def __init__(self, *, learning_rate: float = 1.0) -> None:
        super().__init__(ClientAlgorithm(), Averaging(learning_rate=learning_rate))


class Averaging(ServerAlgorithm):
    """The mean update, weighted by examples, times a learning rate."""

    def __init__(self, *, learning_rate: float = 1.0) -> None:
        check_positive(learning_rate=learning_rate)
        self.learning_rate = learning_rate

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        weights = round.shares
        return Outcome(round.bundle.combine(self.learning_rate * weights), state, weights)
