"""FedSR: a simple representation, by a noisy one that is short and says little beyond the label."""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from equipoise.core.card import Card
from equipoise.core.checks import check_count, check_not_negative
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.classifier import linear_classifier
from equipoise.federated.clientalgorithm import (
    ClientAlgorithm,
    Loss,
    Reply,
    Tensors,
    View,
    difference,
)
from equipoise.federated.fedavg import Averaging

CARD = Card(
    name="FedSR",
    shape="federated",
    summary="Learns a noisy representation that is short, and says little beyond the label.",
    formula="F_k(z) + a E|z| + b E KL(N(C mu, C sigma) || r(z | y)), z ~ N(mu(x), sigma(x))",
    title="FedSR: A Simple and Effective Domain Generalization Method for Federated Learning",
    authors=("A. Tuan Nguyen", "Philip Torr", "Ser-Nam Lim"),
    venue="NeurIPS",
    year=2022,
    guarantees=("PERMUTATION",),
    single="local training with the two regularisers",
    cost="FedAvg's messages of a model with one more layer; no cost in the local steps worth naming",
    use="for clients of several domains, and a model that is to serve a domain that none of them has",
    avoid="models without a linear classifier at their end",
    status="main",
    evidence="fedgtst",
)


class FedSR(Algorithm):
    """A Gaussian representation before the classifier, kept short and free of what the label does not say.

    The model's classifier is replaced by a layer that gives mean mu and softplus deviation sigma of a
    representation of `width` numbers, and a classifier of z = mu + sigma * noise. A client descends the
    loss at z plus `length` times the mean |z| plus `information` times
    KL(N(C mu, C sigma) || N(m_y, softplus s_y)), where m_y, s_y and C are learned by each client for itself
    and stay with it. Evaluated, the model takes z = mu (the authors average the probabilities of some draws).

    width: by default the numbers that go into the classifier. length: 0.01. information: 0.001 (both as for
    PACS). head: the classifier's module, by default the one with the last parameter.

    |z| is the length, not its square, as in the authors' code. log |C| stands for log C, which their code
    lets become NaN when C turns negative. They average models evenly over clients; here by examples.

    Raises ValueError for negative coefficients, and for a model whose classifier is no Linear.
    Source: Nguyen et al. 2022, section 3, and the authors' code.
    """

    def __init__(
        self,
        *,
        length: float = 0.01,
        information: float = 0.001,
        width: int | None = None,
        head: str | None = None,
    ) -> None:
        check_not_negative(length=length, information=information)
        check_count(1, width=width)
        self.width = width
        self.head = head
        super().__init__(NoisyClient(length=length, information=information), Averaging())

    def adapt(self, model: nn.Module) -> nn.Module:
        name, old = linear_classifier(model, self.head)
        parent, _, last = name.rpartition(".")
        noisy = NoisyClassifier(old.in_features, self.width or old.in_features, old.out_features)
        if not name:
            return noisy.to(old.weight)
        setattr(model.get_submodule(parent), last, noisy.to(old.weight))
        return model


class NoisyClassifier(nn.Module):
    """features (n, inputs) -> logits (n, classes), by way of a Gaussian representation (n, width).

    `noise` (n, width) is what the next pass adds, None for none; `seen` what the last pass made of it:
    mean, deviation and representation. The prior of a class is N(prior_mean_y, softplus prior_scale_y).
    """

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(inputs, 2 * width)
        self.classifier = nn.Linear(width, classes)
        self.prior_mean = nn.Parameter(torch.zeros(classes, width))
        self.prior_scale = nn.Parameter(torch.ones(classes, width))
        self.scale = nn.Parameter(torch.ones(()))
        self.noise: Tensor | None = None
        self.seen: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, features: Tensor) -> Tensor:  # (n, inputs) -> (n, classes)
        mean, scale = self.encoder(features).chunk(2, -1)
        scale = softplus(scale)
        z = mean if self.noise is None else mean + scale * self.noise
        if self.noise is not None:
            self.seen = mean, scale, z
        return self.classifier(z)

    def information(self, labels: Tensor) -> Tensor:  # (n,) -> (n,)
        """KL of the scaled Gaussian of each example from the prior of its class."""
        assert self.seen is not None
        mean, scale, _ = self.seen
        wanted, width = self.prior_mean[labels], softplus(self.prior_scale)[labels]
        square = (scale * self.scale) ** 2 + (mean * self.scale - wanted) ** 2
        log = width.log() - scale.log() - self.scale.abs().log()
        return (log + square / (2 * width**2) - 0.5).sum(1)


OWN = ("prior_mean", "prior_scale", "scale")
"""Parameters of the noisy classifier that stay with a client."""


class NoisyClient(ClientAlgorithm):
    """Descends the loss of a noisy representation and the two regularisers."""

    def __init__(self, *, length: float, information: float) -> None:
        self.length = length
        self.information = information

    def start(self, parameters: Tensors) -> Tensors:
        return {name: p for name, p in parameters.items() if _own(name)}

    def receive(self, received: Tensors, kept: Tensors, context: Tensors) -> Tensors:
        return {**received, **kept}

    def draw(self, parameters: Tensors, examples: int, generator: torch.Generator) -> Tensors:
        prior = next(p for name, p in parameters.items() if name.endswith("prior_mean"))
        drawn = torch.randn(examples, prior.shape[1], generator=generator, dtype=prior.dtype)
        return {"noise": drawn.to(prior.device)}

    def objective(self, loss: Loss, parameters: Tensors, view: View) -> tuple[Tensor, Tensor]:
        noise = view.drawn["noise"]

        def regularised(model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
            head = next(m for m in model.modules() if isinstance(m, NoisyClassifier))
            head.noise = noise
            try:
                values = loss.federation.losses(model, batch)
                assert head.seen is not None
                length = torch.linalg.vector_norm(head.seen[2], dim=1)
                return values, self.length * length + self.information * head.information(batch[-1])
            finally:
                head.noise = head.seen = None

        values, more = loss.call(regularised, parameters)
        value = loss.mean(values)
        return value + loss.mean(more), value

    def reply(self, parameters: Tensors, view: View) -> Reply:
        own = {name: p for name, p in parameters.items() if _own(name)}
        moved = difference(parameters, view.anchor)
        shared = {name: torch.zeros_like(p) if _own(name) else p for name, p in moved.items()}
        return Reply(shared, {}, own)


def _own(name: str) -> bool:
    return name.rpartition(".")[2] in OWN
