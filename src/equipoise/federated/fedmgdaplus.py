"""FedMGDA+: the shortest mixture of unit updates, not far from the plain mean."""

import torch
from torch import Tensor

from equipoise.core.boundedqp import bounded_min_norm
from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.serveralgorithm import Outcome, Round, ServerAlgorithm

CARD = Card(
    name="FedMGDAPlus",
    shape="federated",
    summary="Takes the shortest mixture of the clients' unit updates, with weights near those of the mean.",
    formula="w <- w + eta sum_k l_k d_k / |d_k|, l = argmin |sum l_k d_k / |d_k||, |l_k - 1/m| <= epsilon",
    title="Federated Learning Meets Multi-objective Optimization",
    authors=("Zeou Hu", "Kiarash Shaloudegi", "Guojun Zhang", "Yaoliang Yu"),
    venue="IEEE TNSE",
    year=2022,
    arxiv="2006.11489",
    guarantees=("PERMUTATION", "SIMPLEX"),
    single="a step of length eta along the local update",
    cost="FedAvg's messages; a quadratic program of m variables",
    use="where no client is to be hurt (epsilon 1), or clients may inflate their updates",
    avoid="a fixed eta with unit steps to the end: steps no longer shorten by themselves",
    status="main",
    evidence="fair_federated",
)


class FedMGDAPlus(Algorithm):
    """The common descent direction of the clients' unit updates, held near their mean.

    With u_k = d_k / |d_k|, d_k = w_k - w the update of client k, the weights are
    argmin |sum_k l_k u_k|^2 over l >= 0, sum l = 1, |l_k - 1/m| <= epsilon, and w moves by eta sum_k l_k u_k.

    epsilon: 0 is the mean of the unit updates, 1 MGDA on them, by which the update conflicts with no client;
    0.1 by default (tried in the literature: 0.05 to 1). learning_rate: eta, the length of a step in the space
    of the parameters, 1; decay: factor on it from round to round, 1 (the paper lets it fall over the rounds).
    unit_steps: False applies the same weights to the updates as they were sent, as Liu et al. (2026) do in
    their comparison; eta is then a factor as in FedAvg.

    The size of a client's update, and with it an inflated loss, has no influence on the direction. An update
    of zero stays zero, and takes as much weight as the bounds allow: with epsilon 1 a client that cannot
    improve stops the rest, as in MGDA. 1/m is over the clients that replied in the round.

    Raises ValueError for an epsilon outside [0, 1], or rates that are not above 0.
    Source: Hu et al. 2022, algorithm 2.
    """

    def __init__(
        self,
        *,
        epsilon: float = 0.1,
        learning_rate: float = 1.0,
        decay: float = 1.0,
        unit_steps: bool = True,
    ) -> None:
        server = NearMean(epsilon=epsilon, learning_rate=learning_rate, decay=decay, unit_steps=unit_steps)
        super().__init__(ClientAlgorithm(), server)


class NearMean(ServerAlgorithm):
    """The shortest mixture of unit updates whose weights are within `epsilon` of 1/m."""

    def __init__(self, *, epsilon: float, learning_rate: float, decay: float, unit_steps: bool) -> None:
        check_positive(learning_rate=learning_rate, decay=decay)
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon is {epsilon}; it is in [0, 1]")
        self.epsilon = epsilon
        self.learning_rate = learning_rate
        self.decay = decay
        self.unit_steps = unit_steps

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        gramian = round.bundle.gramian()
        inverse = _inverse(gramian.diagonal().sqrt())
        weights = near_mean(gramian * inverse * inverse[:, None], self.epsilon)
        applied = weights * inverse if self.unit_steps else weights
        rate = self.learning_rate * self.decay ** (round.number - 1)
        return Outcome(round.bundle.combine(rate * applied), state, weights)


def near_mean(cosines: Tensor, epsilon: float) -> Tensor:  # (m, m) -> (m,)
    """argmin l'Cl over the simplex, each l within `epsilon` of 1/m.

    >>> near_mean(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), 0.1)
    tensor([0.4000, 0.6000], dtype=torch.float64)
    """
    mean = torch.full((len(cosines),), 1 / len(cosines), dtype=torch.float64)
    return bounded_min_norm(cosines, (mean - epsilon).clamp(min=0), (mean + epsilon).clamp(max=1)).value


def _inverse(lengths: Tensor) -> Tensor:  # (m,) -> (m,)
    """1 over each, and 0 for 0."""
    return torch.where(lengths > 0, 1 / lengths.clamp(min=torch.finfo(lengths.dtype).tiny), 0.0)
