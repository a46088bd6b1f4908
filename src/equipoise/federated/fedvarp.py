"""FedVARP: clients that are absent are represented by the last update they sent."""

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.serveralgorithm import Outcome, Round, ServerAlgorithm

CARD = Card(
    name="FedVARP",
    shape="federated",
    summary="Fills in the last update of each absent client, against the noise of who takes part.",
    formula="w <- w + eta (mean_S (D_k - h_k) + mean_all h_k), then h_k <- D_k for k in S",
    title="FedVARP: Tackling the Variance Due to Partial Client Participation in Federated Learning",
    authors=("Divyansh Jhunjhunwala", "Pranay Sharma", "Aushim Nagarkatti", "Gauri Joshi"),
    venue="UAI",
    year=2022,
    arxiv="2207.14130",
    guarantees=("PERMUTATION",),
    single="local training",
    cost="FedAvg's messages; one model a client at the server",
    use="where few of many unlike clients take part in a round, all equally often",
    avoid="where some clients come far more seldom than others: their updates are out of date; see FedStale",
    status="main",
    evidence="fedstale",
)

HISTORY = "history/"


class FedVARP(Algorithm):
    """The mean update of all clients, the last one of each where it is absent.

    With S the m clients that replied, D_k their updates and h_k the last update of client k before this
    round, 0 before its first, w <- w + eta (1/m sum_S (D_k - h_k) + 1/N sum_all h_k); then h_k <- D_k in S.
    Over the draw of S, each client as likely as another, the mean is that of all clients' updates,
    whatever the h_k. Clients count the same, as in the paper. `learning_rate` is eta of the server, 1 by
    default. With all clients in every round it is the even mean. The server keeps N updates. A learning
    rate of clients that decays leaves the h_k too long by the decay since then.

    Raises ValueError for a learning rate that is not positive.
    Source: Jhunjhunwala et al. 2022, FedVARP, without clusters.
    """

    def __init__(self, *, learning_rate: float = 1.0) -> None:
        super().__init__(ClientAlgorithm(), HistoryServer(learning_rate=learning_rate))


class HistoryServer(ServerAlgorithm):
    """Averages fresh updates with the last ones of all clients taken out, and put back evenly."""

    def __init__(self, *, learning_rate: float) -> None:
        check_positive(learning_rate=learning_rate)
        self.learning_rate = learning_rate

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        return no_history(parameters, len(clients))

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        count = len(round.bundle)
        fresh = torch.full((count,), 1 / count, dtype=torch.float64)
        stale = torch.full((len(round.everyone),), 1 / len(round.everyone), dtype=torch.float64)
        rows = rows_of(round)
        stale = stale.index_add(0, rows, -fresh)
        update, history = combined(round, state, self.learning_rate * fresh, self.learning_rate * stale, rows)
        return Outcome(update, history, fresh)


def no_history(parameters: Tensors, count: int) -> Tensors:
    """The last update of each of `count` clients before there is any: zeros (count, *shape) a block."""
    return {HISTORY + name: tensor.new_zeros((count, *tensor.shape)) for name, tensor in parameters.items()}


def rows_of(round: Round) -> Tensor:  # -> (m,) int64
    """The places of those that replied among all clients."""
    place = {name: row for row, name in enumerate(round.everyone)}
    return torch.tensor([place[name] for name in round.names])


def combined(
    round: Round, state: Tensors, fresh: Tensor, stale: Tensor, rows: Tensor
) -> tuple[Tensors, Tensors]:  # fresh (m,), stale (N,), rows (m,)
    """sum_k fresh_k D_k + sum_j stale_j h_j block by block, and the h after this round."""
    update, history = {}, {}
    for name, changes in round.bundle.items():
        before = state[HISTORY + name]
        update[name] = weighted(fresh, changes) + weighted(stale, before)
        history[HISTORY + name] = before.index_copy(0, rows.to(before.device), changes)
    return update, history


def weighted(weights: Tensor, rows: Tensor) -> Tensor:  # (m,), (m, *shape) -> (*shape)
    """The weighted sum of rows, in their dtype."""
    return torch.tensordot(weights.to(rows), rows, 1)
