"""FedDisco: clients whose classes are spread unlike everybody's count less."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.checks import check_finite, check_not_negative, check_positive
from equipoise.core.errors import check_choice
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.serveralgorithm import Ask, Outcome, Round, ServerAlgorithm

CARD = Card(
    name="FedDisco",
    shape="federated",
    summary="Weighs clients by their examples, less how far their classes are from an even spread.",
    formula="weight_k ~ max(0, n_k / n - a d_k + b)",
    title="FedDisco: Federated Learning with Discrepancy-Aware Collaboration",
    authors=("Rui Ye", "Mingkai Xu", "Jianyu Wang", "Chenxin Xu", "Siheng Chen", "Yanfeng Wang"),
    venue="ICML",
    year=2023,
    arxiv="2305.19229",
    guarantees=("PERMUTATION", "SIMPLEX"),
    single="local training",
    cost="FedAvg's messages and the count of each class",
    use="where some clients hold all classes and others few, and the model is judged on all classes",
    avoid="where a class is held by such a client alone, or class counts may not be told",
    status="main",
    evidence="feddisco",
)

NEGLIGIBLE = 1e-12
"""The sum of divergences, in nats, below which they are rounding, and no client is unlike the reference."""

Reference = Literal["even", "all"]
Discrepancy = Literal["kl", "l2"]


class FedDisco(Algorithm):
    """The mean of the clients' models, weighted by examples and by the spread of their classes.

    d_k is how far the shares of the classes at client k are from a reference: `discrepancy` "kl" is their
    Kullback-Leibler divergence over the sum of all clients' in the round (0 where all are 0), "l2" the length
    of their difference. The reference is an "even" spread, or that of "all" clients that replied. Then
    weight_k ~ max(0, n_k / n - a d_k + b), over their sum. Where that leaves nobody, for which the paper has
    no rule, the weights are those of FedAvg. `learning_rate` is the server's, 1 by default.

    a = 0 and b = 0 is FedAvg; a large b approaches the even mean.

    Raises ValueError for a negative a, a learning rate that is not positive, other words, and for data
    whose targets are no classes.
    Source: Ye et al. 2023, the weights of FedDisco; a, b, the divergence and its scale are those of the
    authors' code.
    """

    def __init__(
        self,
        *,
        a: float = 0.5,
        b: float = 0.1,
        discrepancy: Discrepancy = "kl",
        reference: Reference = "even",
        learning_rate: float = 1.0,
    ) -> None:
        server = DiscrepancyServer(
            a=a, b=b, discrepancy=discrepancy, reference=reference, learning_rate=learning_rate
        )
        super().__init__(ClientAlgorithm(), server)


class DiscrepancyServer(ServerAlgorithm):
    """The mean update, weighted by examples and by the spread of classes."""

    asks: ClassVar[tuple[Ask, ...]] = ("label_counts",)

    def __init__(
        self, *, a: float, b: float, discrepancy: Discrepancy, reference: Reference, learning_rate: float
    ) -> None:
        check_not_negative(a=a)
        check_finite(b=b)
        check_positive(learning_rate=learning_rate)
        check_choice("discrepancy", discrepancy, ("kl", "l2"))
        check_choice("reference", reference, ("even", "all"))
        self.a = a
        self.b = b
        self.discrepancy: Discrepancy = discrepancy
        self.reference: Reference = reference
        self.learning_rate = learning_rate

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        counts = round.side["label_counts"]
        reference = counts.sum(0) if self.reference == "all" else torch.ones_like(counts[0])
        apart = discrepancies(counts, reference, self.discrepancy)
        weights = (round.shares - self.a * apart + self.b).clamp(min=0)
        weights = weights / weights.sum() if bool(weights.any()) else round.shares
        return Outcome(round.bundle.combine(self.learning_rate * weights), state, weights)


def discrepancies(
    counts: Tensor, reference: Tensor, kind: Discrepancy
) -> Tensor:  # (m, classes), (classes,) -> (m,)
    """How far each client's shares of the classes are from those of the reference.

    >>> counts = torch.tensor([[5.0, 5.0], [4.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    >>> discrepancies(counts, torch.ones(2), "kl").tolist()
    [0.0, 0.5, 0.5]
    """
    own = counts / counts.sum(1, keepdim=True).clamp(min=1)
    whole = (reference / reference.sum().clamp(min=1)).to(own)
    if kind == "l2":
        return torch.linalg.vector_norm(own - whole, dim=1)
    apart = (torch.special.xlogy(own, own) - torch.special.xlogy(own, whole)).sum(1).clamp(min=0)
    total = apart.sum()
    return apart / total if total > NEGLIGIBLE else torch.zeros_like(apart)
