"""FedIIR: clients hold the gradient of their classifier near the mean of all clients'."""

import torch
from torch import Tensor
from torch.func import grad_and_value

from equipoise.core.card import Card
from equipoise.core.checks import check_not_negative, check_share
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.classifier import classifier_prefix
from equipoise.federated.clientalgorithm import ClientAlgorithm, Loss, Tensors, View
from equipoise.federated.fedavg import Averaging
from equipoise.federated.serveralgorithm import Outcome, Round

CARD = Card(
    name="FedIIR",
    shape="federated",
    summary="Aligns the clients' classifier gradients, for what all domains have in common.",
    formula="F_k + gamma |grad_c F_k - G|^2, G the moving mean of the clients' grad_c F_k",
    title="Out-of-Distribution Generalization of Federated Learning via Implicit Invariant Relationships",
    authors=("Yaming Guo", "Kai Guo", "Xiaofeng Cao", "Tieru Wu", "Yi Chang"),
    venue="ICML",
    year=2023,
    guarantees=("PERMUTATION",),
    single="local training with the classifier's gradient held near its past",
    cost="FedAvg's messages and the classifier both ways again; a second derivative in each local step",
    use="for clients of several domains, and a model that is to serve a domain that none of them has",
    avoid="clients that differ in their labels: then the classifier's gradients should differ too",
    status="main",
    evidence="fedgtst",
)


class FedIIR(Algorithm):
    """Local losses with a penalty on the distance of the classifier's gradient from the clients' mean.

    A client descends F_k(v) + gamma |grad_c F_k(v) - G|^2, where grad_c is by the parameters of the
    classifier, on the batch of the step. From G = 0, G <- ema G + (1 - ema) mean_k grad_c F_k, weighted by
    examples, of the gradients at the received model over all training examples.

    gamma: `penalty`, 1e-3 by default (the paper's for PACS; 1e-2 for rotated MNIST, 5e-3 for VLCS, 5e-4 for
    Office-Home). ema: 0.95. head: the classifier's module, by default the one with the last parameter.

    The authors' code asks the clients for their gradients in a round trip of its own before they train; here
    they come with the replies, so that G is that of the round before. They average models and gradients
    evenly over clients; here both are weighted by examples.

    Raises ValueError for a negative penalty, or an ema outside [0, 1).
    Source: Guo et al. 2023 (FedIIR), section 4, and the authors' code.
    """

    def __init__(self, *, penalty: float = 1e-3, ema: float = 0.95, head: str | None = None) -> None:
        check_not_negative(penalty=penalty)
        check_share(ema=ema)
        super().__init__(AlignedClient(penalty=penalty, head=head), GradientMean(ema=ema, head=head))


class AlignedClient(ClientAlgorithm):
    """Descends the loss and the squared distance of its classifier's gradient from the mean one."""

    def __init__(self, *, penalty: float, head: str | None) -> None:
        self.penalty = penalty
        self.head = head

    def objective(self, loss: Loss, parameters: Tensors, view: View) -> tuple[Tensor, Tensor]:
        gradient, value = self._gradient(loss, parameters)
        apart = sum(((part - view.context[name]) ** 2).sum() for name, part in gradient.items())
        return value + self.penalty * apart, value

    def probe(self, loss: Loss, parameters: Tensors) -> Tensors:
        return self._gradient(loss, parameters)[0]

    def _gradient(self, loss: Loss, parameters: Tensors) -> tuple[Tensors, Tensor]:
        """The classifier's gradient, by the names of its parameters, and the loss."""
        prefix = classifier_prefix(parameters, self.head)
        classifier = {name: part for name, part in parameters.items() if name.startswith(prefix)}
        rest = {name: part for name, part in parameters.items() if name not in classifier}
        return grad_and_value(lambda own: loss({**rest, **own}))(classifier)


class GradientMean(Averaging):
    """Averages, and keeps a moving mean of the classifier's gradients."""

    def __init__(self, *, ema: float, head: str | None) -> None:
        super().__init__()
        self.ema = ema
        self.head = head

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        prefix = classifier_prefix(parameters, self.head)
        return {name: torch.zeros_like(p) for name, p in parameters.items() if name.startswith(prefix)}

    def context(self, state: Tensors, client: str) -> Tensors:
        return dict(state)

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        averaged, shares = super().aggregate(state, round), round.shares
        means = {name: torch.tensordot(shares.to(rows), rows, 1) for name, rows in round.sent.items()}
        moved = {name: self.ema * old + (1 - self.ema) * means[name] for name, old in state.items()}
        return Outcome(averaged.update, moved, averaged.weights)
