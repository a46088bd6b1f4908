"""FedDyn: local objectives bent each round, until their minima are that of the mean objective."""

import torch

from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Reply, Tensors, View, difference
from equipoise.federated.serveralgorithm import Outcome, Round, ServerAlgorithm

CARD = Card(
    name="FedDyn",
    shape="federated",
    summary="Adds to each client's loss a slope that makes its minimum fall on the common one.",
    formula="min_v F_k(v) - <g_k, v> + alpha / 2 |v - w|^2, g_k <- g_k - alpha (w_k - w)",
    title="Federated Learning Based on Dynamic Regularization",
    authors=(
        "Durmus Alp Emre Acar",
        "Yue Zhao",
        "Ramon Matas Navarro",
        "Matthew Mattina",
        "Paul N. Whatmough",
        "Venkatesh Saligrama",
    ),
    venue="ICLR",
    year=2021,
    arxiv="2111.04263",
    guarantees=("PERMUTATION",),
    single="a proximal method with memory of its past steps",
    cost="FedAvg's messages; one model kept by each client and one by the server",
    use="where clients differ much and each solves its local problem well",
    avoid="with few local steps: what it keeps are gradients only where local problems are solved",
    status="main",
    evidence="scaffold",
)

SLOPE, MEAN = "slope/", "mean_slope/"


class FedDyn(Algorithm):
    """Dynamic regularisation.

    Client k descends F_k(v) - <g_k, v> + alpha / 2 |v - w|^2 from the model w it received to w_k, then sets
    g_k <- g_k - alpha (w_k - w), which is grad F_k(w_k) where the descent came to an end. The server keeps
    h <- h - (alpha / N) sum_k (w_k - w) over the clients that replied, N of them in all, the mean of the
    g_k; the next model is mean_k w_k - h / alpha. All begin at 0. Absent clients keep their g_k, and h keeps
    its part of theirs.

    `alpha`: small means long and free local steps, and a long way to the common minimum; 0.01 is the authors'
    for CIFAR-10. Their code divides alpha by N times a client's share of the examples; here, as in the
    paper, it is the same for all, and clients count the same.
    `outputs` has the mean of the local models, "average", beside the server's, as the authors' code reports.

    Raises ValueError for an alpha that is not positive.
    Source: Acar et al. 2021, algorithm 1.
    """

    def __init__(self, *, alpha: float = 0.01) -> None:
        super().__init__(SlopedClient(alpha=alpha), SlopeServer(alpha=alpha))


class SlopedClient(ClientAlgorithm):
    """Descends its loss, less its slope, near the model received."""

    def __init__(self, *, alpha: float) -> None:
        check_positive(alpha=alpha)
        self.alpha = alpha

    def start(self, parameters: Tensors) -> Tensors:
        return _zeros(SLOPE, parameters)

    def correct(self, gradient: Tensors, parameters: Tensors, view: View) -> Tensors:
        return {
            name: part - view.kept[SLOPE + name] + self.alpha * (parameters[name] - view.anchor[name])
            for name, part in gradient.items()
        }

    def reply(self, parameters: Tensors, view: View) -> Reply:
        update = difference(parameters, view.anchor)
        slopes = {
            SLOPE + name: view.kept[SLOPE + name] - self.alpha * moved for name, moved in update.items()
        }
        return Reply(update, {}, slopes)


class SlopeServer(ServerAlgorithm):
    """Averages evenly, and steps on against the mean slope of all clients."""

    def __init__(self, *, alpha: float) -> None:
        check_positive(alpha=alpha)
        self.alpha = alpha

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        return _zeros(MEAN, parameters)

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        count = len(round.bundle)
        weights = torch.full((count,), 1 / count, dtype=torch.float64)
        share = count / len(round.everyone)
        update, slopes = {}, {}
        for name, mean in round.bundle.combine(weights).items():
            slope = state[MEAN + name] - self.alpha * share * mean
            update[name] = mean - slope / self.alpha
            slopes[MEAN + name] = slope
        return Outcome(update, slopes, weights)

    def outputs(self, state: Tensors, parameters: Tensors) -> dict[str, Tensors]:
        means = {
            name: tensor + state[MEAN + name] / self.alpha
            for name, tensor in parameters.items()
            if MEAN + name in state
        }
        return {"average": parameters | means}


def _zeros(prefix: str, parameters: Tensors) -> Tensors:
    return {prefix + name: tensor.new_zeros(tensor.shape) for name, tensor in parameters.items()}
