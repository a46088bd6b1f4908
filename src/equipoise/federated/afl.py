"""AFL: the worst mixture of the clients' data, by projected ascent on the mixture."""

from equipoise.core.card import Card
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.clientlosses import Losses
from equipoise.federated.omdtch import MirrorAscent
from equipoise.federated.serveralgorithm import Round

CARD = Card(
    name="AFL",
    shape="federated",
    summary="Trains for the worst mixture of the clients' data, which climbs on their losses.",
    formula="w <- w + sum_k lambda_k (w_k - w), lambda <- projection of lambda + gamma F on the simplex",
    title="Agnostic Federated Learning",
    authors=("Mehryar Mohri", "Gary Sivek", "Ananda Theertha Suresh"),
    venue="ICML",
    year=2019,
    arxiv="1902.00146",
    guarantees=("PERMUTATION", "NON_NEGATIVE", "STATEFUL"),
    single="local training",
    cost="FedAvg's messages; the server keeps one more model",
    use="where the mixture that the model will meet is unknown, with few clients that all reply",
    avoid="many clients of which few reply, or clients with spoilt data, which take all weight",
    status="main",
    evidence="fair_federated",
)


class AFL(Algorithm):
    """min_w max_lambda sum_k lambda_k F_k(w), lambda any mixture of the clients.

    In a round the model moves by sum_k lambda_k (w_k - w), then lambda <- Proj(lambda + gamma F) on the
    simplex, from lambda = 1 / m.

    step_size: gamma, 0.1. losses: "during", the mean over a client's local steps, or "before" (see
    `ByLosses`). learning_rate: of the server, 1.

    The paper takes one stochastic gradient a round, which is `Local(steps=1)` with a batch size; losses
    "during" are then those of that batch at the model received, as there. Its solution is the average of the
    models after each step, the last included, in `outputs` as "average"; the last stands beside it. Where
    clients are absent from a round, lambda is normalised over those that reply, and theirs alone climbs. It
    is OMD-TCH of projected geometry without a preference, whose average is of the models before each step.

    Raises ValueError for rates that are not above 0.
    Source: Mohri et al. 2019, section 4, algorithm STOCHASTIC-AFL.
    """

    def __init__(
        self, *, step_size: float = 0.1, losses: Losses = "during", learning_rate: float = 1.0
    ) -> None:
        server = AgnosticAscent(
            step_size=step_size,
            geometry="projected",
            preference=None,
            losses=losses,
            learning_rate=learning_rate,
        )
        super().__init__(ClientAlgorithm(), server)


class AgnosticAscent(MirrorAscent):
    """Mirror ascent that averages the models it arrives at."""

    def averaged(self, round: Round, update: Tensors) -> Tensors:
        return {
            name: sent + update[name] if name in update else sent for name, sent in round.parameters.items()
        }
