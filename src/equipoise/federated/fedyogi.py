"""FedYogi: Yogi at the server, the mean update in the place of a gradient."""

from torch import Tensor

from equipoise.core.card import Card
from equipoise.federated.adaptivemoments import AdaptiveMoments
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm

CARD = Card(
    name="FedYogi",
    shape="federated",
    summary="Moves the server as FedAdam does, with a scale that changes slowly in either direction.",
    formula="v <- v - (1 - b2) D^2 sign(v - D^2), else FedAdam",
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
    single="Yogi steps on its own update",
    cost="FedAvg's messages; two numbers a parameter at the server",
    use="as FedAdam, where updates are large in some rounds and small in the next",
    avoid="without tuning the server's rate: its steps have the size of that rate, not of the updates",
    status="main",
)


class FedYogi(Algorithm):
    """Yogi at the server.

    As `FedAdam`, with v <- v - (1 - beta_2) D^2 sign(v - D^2): a step of v is never larger than
    (1 - beta_2) D^2, so that one round of small updates does not shrink it, where Adam's v would fall at
    the rate of v itself. Options as there.

    Raises ValueError for a rate or tau that is not positive, betas outside [0, 1), a negative `first`.
    Source: Reddi et al. 2021, algorithm 2.
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
        server = YogiServer(learning_rate=learning_rate, beta_1=beta_1, beta_2=beta_2, tau=tau, first=first)
        super().__init__(ClientAlgorithm(), server)


class YogiServer(AdaptiveMoments):
    """The square moved towards that of the update, by a part of the update's."""

    def squared(self, before: Tensor, square: Tensor) -> Tensor:  # (*shape), (*shape) -> (*shape)
        return before - (1 - self.beta_2) * square * (before - square).sign()
