"""FedNova: clients count by their examples, not by how many steps they took."""

from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.serveralgorithm import Outcome, Round, ServerAlgorithm

CARD = Card(
    name="FedNova",
    shape="federated",
    summary="Divides each update by its local steps before averaging, so that busy clients do not rule.",
    formula="w <- w + tau_eff sum_k p_k (w_k - w) / |a_k|_1, tau_eff = sum_k p_k |a_k|_1",
    title="Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization",
    authors=("Jianyu Wang", "Qinghua Liu", "Hao Liang", "Gauri Joshi", "H. Vincent Poor"),
    venue="NeurIPS",
    year=2020,
    arxiv="2007.07481",
    guarantees=("PERMUTATION",),
    single="local training",
    cost="FedAvg's messages",
    use="where clients take different numbers of local steps: unequal data, stragglers",
    avoid="at a large local rate, where it stretches updates of few steps far; with equal steps it is FedAvg",
    status="main",
    evidence="scaffold",
)


class FedNova(Algorithm):
    """The mean of normalised updates.

    Each update is divided by |a_k|_1, how much of one gradient its steps add up to, before it is weighted by
    p_k = n_k / n; the sum is stretched again by tau_eff = sum_k p_k |a_k|_1. Without local momentum |a_k|_1
    is the number of local steps; with momentum see `Local.lengths`. `learning_rate` is the server's, 1 by
    default. Both sums are over those that replied. `Local.clip` and weight decay are not in |a_k|_1, nor in
    the paper's; FedProx's term is, in the paper, but not here.

    As the local rate goes to 0, the fixed point for different numbers of steps is that of sum_k p_k F_k,
    where FedAvg's is that of sum_k p_k K_k F_k; at a larger rate both are off by the clients' drift.

    Raises ValueError for a learning rate that is not positive.
    Source: Wang et al. 2020, FedNova with tau_eff as they take it by default; |a_k|_1 with momentum is what
    their code walks through step by step.
    """

    def __init__(self, *, learning_rate: float = 1.0) -> None:
        super().__init__(ClientAlgorithm(), NormalisedServer(learning_rate=learning_rate))


class NormalisedServer(ServerAlgorithm):
    """Averages what clients moved in a step, and takes their mean number of steps."""

    def __init__(self, *, learning_rate: float) -> None:
        check_positive(learning_rate=learning_rate)
        self.learning_rate = learning_rate

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        lengths = round.local.lengths(round.side["steps"])
        shares = round.shares
        weights = shares * (shares @ lengths) / lengths
        notes = {"effective_steps": float(shares @ lengths)}
        return Outcome(round.bundle.combine(self.learning_rate * weights), state, weights, notes)
