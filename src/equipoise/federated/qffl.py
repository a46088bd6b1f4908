"""q-FFL: a client counts by a power of its loss, so that losses come out more even."""

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.checks import check_not_negative
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Reply, Tensors, View
from equipoise.federated.clientlosses import ByLosses, Losses
from equipoise.federated.serveralgorithm import Outcome, Round

CARD = Card(
    name="QFFL",
    shape="federated",
    summary="Weighs clients by the q-th power of their loss, with a step size that q sets.",
    formula="w <- w + sum_k L F_k^q d_k / sum_k (q F_k^(q-1) L^2 |d_k|^2 + L F_k^q), L = 1 / local rate",
    title="Fair Resource Allocation in Federated Learning",
    authors=("Tian Li", "Maziar Sanjabi", "Ahmad Beirami", "Virginia Smith"),
    venue="ICLR",
    year=2020,
    arxiv="1905.10497",
    guarantees=("PERMUTATION", "NON_NEGATIVE"),
    single="local training, shortened the more the larger q is",
    cost="FedAvg's messages and one number; a look at all training examples before local training",
    use="to trade a little of the mean for a smaller spread of accuracies between clients",
    avoid="large q with many local steps: the steps become short, and training slow",
    status="main",
    evidence="qffl",
)

LEAST = 1e-10
"""Below this no loss counts, as in the authors' code: 0 has no power below 0."""


class QFFL(Algorithm):
    """q-FedAvg: the update that lowers sum_k F_k^(q+1) / (q+1), with the step size that q calls for.

    With d_k = w_k - w the update of client k, F_k its loss and L = 1 / (local learning rate), the model moves
    by

        sum_k L F_k^q d_k / sum_k (q F_k^(q-1) L^2 |d_k|^2 + L F_k^q),

    L d_k standing in for minus the gradient, and the denominator for the Lipschitz constant of F_k^(q+1) /
    (q+1).

    q: 0 is the plain mean of the clients' models, whatever their sizes; the larger, the nearer to minimising
    the worst loss (the paper takes 0.1 to 15, mostly 1 or 5; 1 here). losses: "before", the paper's, or
    "during" (see `ByLosses`). The local rate comes with the replies. Clients that are absent from a round
    do not count in it; the paper draws them by size and then counts them alike.

    Weights sum to less than 1 where q > 0. A loss of 0 counts as 1e-10.

    Raises ValueError for a negative q.
    Source: Li et al. 2020, algorithm 2 (q-FedAvg), and the authors' code.
    """

    def __init__(self, *, q: float = 1.0, losses: Losses = "before") -> None:
        super().__init__(RatedClient(), LossPowers(q=q, losses=losses))


class RatedClient(ClientAlgorithm):
    """Plain local descent that tells its learning rate."""

    def reply(self, parameters: Tensors, view: View) -> Reply:
        plain = super().reply(parameters, view)
        rate = torch.full_like(view.steps, view.rate)
        return Reply(plain.update, {"rate": rate}, plain.kept)


class LossPowers(ByLosses):
    """Updates by powers of their losses, over the sum of the clients' Lipschitz estimates."""

    def __init__(self, *, q: float, losses: Losses) -> None:
        super().__init__(losses=losses)
        check_not_negative(q=q)
        self.q = q

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        squares = round.bundle.gramian().diagonal()
        smoothness = 1 / round.sent["rate"].double().cpu()
        weights = step_weights(self.losses_of(round), squares, smoothness, self.q)
        return Outcome(round.bundle.combine(weights), state, weights)


def step_weights(losses: Tensor, squares: Tensor, smoothness: Tensor, q: float) -> Tensor:
    # (m,), (m,), (m,) -> (m,)
    """What each update counts, from F_k, |d_k|^2 and L.

    >>> step_weights(torch.tensor([1.0, 3.0]), torch.ones(2), torch.ones(2), 0.0)
    tensor([0.5000, 0.5000])
    """
    losses = losses.clamp(min=LEAST)
    powers = (losses / losses.max()) ** q  # the common factor is the same above and below
    weighted = smoothness * powers
    return weighted / (weighted * (1 + q * smoothness * squares / losses)).sum()
