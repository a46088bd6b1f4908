"""FedAdagrad: Adagrad at the server, the mean update in the place of a gradient."""

from torch import Tensor

from equipoise.core.card import Card
from equipoise.federated.adaptivemoments import AdaptiveMoments
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm

CARD = Card(
    name="FedAdagrad",
    shape="federated",
    summary="Moves the server by Adagrad: every parameter slows down with the updates it has had.",
    formula="v <- v + D^2, else FedAdam",
    title="Adaptive Federated Optimization",
    authors=(
        "Sashank J. Reddi",
        "Zachary Charles",
        "Manzil Zaheer",
        "Zachary Garrett",
        "Keith Rush",
        "Jakub Konečný",
        "Sanjiv Kumar",
        "H. Brendan McMahan",
    ),
    venue="ICLR",
    year=2021,
    arxiv="2003.00295",
    guarantees=("PERMUTATION",),
    single="Adagrad steps on its own update",
    cost="FedAvg's messages; two numbers a parameter at the server",
    use="for sparse features, convex models, and where no schedule of the server's rate is wanted",
    avoid="long training of deep networks: the steps only ever shrink",
    status="main",
)


class FedAdagrad(Algorithm):
    """Adagrad at the server.

    As `FedAdam`, with v <- v + D^2 and, as in the paper's experiments, no momentum (`beta_1` 0), so that
    w <- w + eta D / (sqrt(v) + tau). Options as there.

    Raises ValueError for a rate or tau that is not positive, beta_1 outside [0, 1), a negative `first`.
    Source: Reddi et al. 2021, algorithm 2.
    """

    def __init__(
        self,
        *,
        learning_rate: float = 0.1,
        beta_1: float = 0.0,
        tau: float = 1e-3,
        first: float | None = None,
    ) -> None:
        server = AdagradServer(learning_rate=learning_rate, beta_1=beta_1, tau=tau, first=first)
        super().__init__(ClientAlgorithm(), server)


class AdagradServer(AdaptiveMoments):
    """The square as a sum over all rounds."""

    def squared(self, before: Tensor, square: Tensor) -> Tensor:  # (*shape), (*shape) -> (*shape)
        return before + square
