"""FedAdam: Adam at the server, the mean update in the place of a gradient."""

from torch import Tensor

from equipoise.core.card import Card
from equipoise.federated.adaptivemoments import AdaptiveMoments
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm

CARD = Card(
    name="FedAdam",
    shape="federated",
    summary="Moves the server by Adam, with the mean of the clients' updates as its gradient.",
    formula="m <- b1 m + (1 - b1) D, v <- b2 v + (1 - b2) D^2, w <- w + eta m / (sqrt(v) + tau)",
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
    single="Adam steps on its own update",
    cost="FedAvg's messages; two numbers a parameter at the server",
    use="where updates of some parameters are rare or far smaller than others', as in text models",
    avoid="without tuning the server's rate: its steps have the size of that rate, not of the updates",
    status="main",
)


class FedAdam(Algorithm):
    """Adam at the server.

    With D the mean of the updates, weighted by examples, entry by entry:
    m <- beta_1 m + (1 - beta_1) D; v <- beta_2 v + (1 - beta_2) D^2; w <- w + eta m / (sqrt(v) + tau).
    eta is `learning_rate`, of the server; `tau` is the size of updates below which steps shrink in
    proportion; v begins at `first`, tau^2 where it is None, and m at 0. The rates of server and clients are
    to be tuned together: 0.1, the default, is a value of the paper's grid.

    There is no correction of the bias of m and v, as the paper has none. Flower's FedAdam has Adam's, eta
    times sqrt(1 - beta_2^(t+1)) / (1 - beta_1^(t+1)) in round t, and v begins at 0 there, so its first
    steps differ: the factor is 0.74 in round 1, falls to 0.47 by round 11 and is near 1 after some
    hundreds. Absent clients only change who is averaged.

    Raises ValueError for a rate or tau that is not positive, betas outside [0, 1), a negative `first`.
    Source: Reddi et al. 2021, algorithm 2; weights by examples as in their experiments.
    """

    def __init__(
        self,
        *,
        learning_rate: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        tau: float = 1e-3,
        first: float | None = None,
    ) -> None:
        server = AdamServer(learning_rate=learning_rate, beta_1=beta_1, beta_2=beta_2, tau=tau, first=first)
        super().__init__(ClientAlgorithm(), server)


class AdamServer(AdaptiveMoments):
    """The square as an exponential mean."""

    def squared(self, before: Tensor, square: Tensor) -> Tensor:  # (*shape), (*shape) -> (*shape)
        return self.beta_2 * before + (1 - self.beta_2) * square
