"""Bulyan: Krum chooses a crowd, and every coordinate is a mean near the crowd's median."""

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.checks import check_count, check_positive
from equipoise.core.ordered import middle, ordered
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.serveralgorithm import Outcome, Round, ServerAlgorithm

CARD = Card(
    name="Bulyan",
    shape="federated",
    summary="Lets Krum choose a crowd of updates, and averages each coordinate near the crowd's median.",
    formula="S = m - 2f choices of Krum; w <- w + eta mean of the |S| - 2f values nearest to the median of S",
    title="The Hidden Vulnerability of Distributed Learning in Byzantium",
    authors=("El Mahdi El Mhamdi", "Rachid Guerraoui", "Sébastien Rouault"),
    venue="ICML",
    year=2018,
    arxiv="1802.07927",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)"),
    single="local training",
    cost="FedAvg's messages; the Gramian, m sorts of its rows, and a sort of every coordinate",
    use="large models, where a liar could hide one bad coordinate among many good ones",
    avoid="fewer than 4f + 3 replies a round, or clients that differ much by nature",
    status="main",
)


ROUNDING = 1e-12
"""Part of the squared lengths to which a sum of squared distances is known from the Gramian."""


class Bulyan(Algorithm):
    """Steps of which no coordinate can be far off, whatever a minority of clients sends.

    Krum chooses one update, that with the least sum of squared distances to its n - f - 2 nearest of the n
    that are left; it is taken out, and Krum chooses again, until S holds m - 2f. Each coordinate of the
    step is the mean of the |S| - 2f values of S that are nearest to their median.

    byzantine: f, how many clients may send anything; by default the most that m >= 4f + 3 allows, (m - 3)
    // 4. A round with fewer than 4f + 3 replies counts on as many liars as its replies allow, and says so
    in its notes; below seven there is no protection, and the step is the plain mean. learning_rate: of the
    server, 1.

    Clients count alike, whatever their sizes. Where n - f - 2 is 0, one neighbour counts; updates of one
    score are told apart by the next nearest. Of two values as near to the median as each other the smaller
    is taken. Buffers, such as the statistics of BatchNorm, go the same way as the coordinates of the step.

    Raises ValueError for a negative f or a learning rate that is not positive.
    Source: El Mhamdi et al. 2018 (Bulyan of Krum).
    """

    def __init__(self, *, byzantine: int | None = None, learning_rate: float = 1.0) -> None:
        super().__init__(ClientAlgorithm(), NearMedian(byzantine=byzantine, learning_rate=learning_rate))


class NearMedian(ServerAlgorithm):
    """Chooses updates by Krum, and averages each coordinate near their median."""

    def __init__(self, *, byzantine: int | None, learning_rate: float) -> None:
        check_count(0, byzantine=byzantine)
        check_positive(learning_rate=learning_rate)
        self.byzantine = byzantine
        self.learning_rate = learning_rate

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        m = len(round.bundle)
        most = max((m - 3) // 4, 0)
        f = most if self.byzantine is None else min(self.byzantine, most)
        chosen = selection(round.bundle.gramian(), f)
        keep = len(chosen) - 2 * f
        update = {name: self.learning_rate * near(rows[chosen], keep) for name, rows in round.bundle.items()}
        weights = torch.zeros(m, dtype=torch.float64)
        weights[chosen] = 1 / len(chosen)
        return Outcome(update, state, weights, {"byzantine": f})

    def buffers(self, round: Round, outcome: Outcome, rows: Tensors) -> Tensors:
        """As the update: of those that Krum chose, the mean near the median."""
        assert outcome.weights is not None
        chosen = outcome.weights.nonzero().flatten()
        keep = len(chosen) - 2 * outcome.notes["byzantine"]
        return {name: near(held[chosen.to(held.device)], keep) for name, held in rows.items()}


def near(rows: Tensor, count: int) -> Tensor:  # (m, *shape) -> (*shape)
    """`near_median` of tensors."""
    return near_median(rows.reshape(len(rows), -1), count).reshape(rows.shape[1:])


def selection(gramian: Tensor, byzantine: int) -> list[int]:  # (m, m)
    """The m - 2f rows that Krum chooses one after the other, in rising order.

    >>> points = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 50.0, 5.0], dtype=torch.float64)[:, None]
    >>> selection(points @ points.T, 1)
    [1, 2, 3, 4, 6]
    """
    m = len(gramian)
    squares = gramian.diagonal()
    distances = (squares[:, None] + squares - 2 * gramian).clamp(min=0).fill_diagonal_(torch.inf)
    left, chosen = list(range(m)), []
    while byzantine and len(chosen) < m - 2 * byzantine:
        nearest = distances[left][:, left].sort(1).values
        neighbours = max(len(left) - byzantine - 2, 1)
        scores = nearest[:, :neighbours].sum(1)
        best = int(scores.argmin())
        doubt = ROUNDING * (scores[best] + neighbours * squares[left[best]])
        level = (scores <= scores[best] + doubt).nonzero().flatten()
        chosen.append(left.pop(int(level[nearest[level, neighbours].argmin()])))
    return sorted(chosen) if byzantine else left


def near_median(rows: Tensor, count: int) -> Tensor:  # (m, k) -> (k,)
    """The mean of the `count` values of each column that are nearest to its median.

    >>> near_median(torch.tensor([[0.0], [1.0], [2.0], [9.0], [10.0]]), 3)
    tensor([1.])
    """
    if count == len(rows):
        return rows.mean(0)
    rising = ordered(rows)
    nearest = (rising - middle(rows)).abs().argsort(dim=0, stable=True)[:count]
    return rising.gather(0, nearest).mean(0)
