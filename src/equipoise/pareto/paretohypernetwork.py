"""ParetoHyperNetwork: a network that gives the weights of the model for a preference."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from equipoise.core.card import Card
from equipoise.core.rule import Scalarizer
from equipoise.pareto.conditioned import Conditioned, Hypernetwork, trained
from equipoise.pareto.landscape import Landscape
from equipoise.pareto.learner import Learner

CARD = Card(
    name="ParetoHyperNetwork",
    shape="front",
    summary="Trains a network that turns a preference into all the weights of the model.",
    formula="min over phi of E_p[sum_i p_i f_i(h_phi(p))]",
    title="Learning the Pareto Front with Hypernetworks",
    authors=("Aviv Navon", "Aviv Shamsian", "Gal Chechik", "Ethan Fetaya"),
    venue="ICLR",
    year=2021,
    arxiv="2010.04104",
    single="the model that gradient descent finds, over a larger parametrisation",
    cost="one gradient a step, and `hidden` times the parameters",
    use="for small models whose front bends, so that no straight line of weights follows it",
    avoid="for models of more than some 100,000 parameters: the last layer holds `hidden` times as many",
    status="experimental",
    evidence="pareto_manifold",
)
SHARE = 0.1
"""The share of the learning rate that the landscape's own optimizer takes here."""
MakeOptimizer = Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]


class ParetoHyperNetwork(Learner):
    """Trains a network that turns a preference into all the weights of the model.

    theta = h_phi(p): three layers of `hidden` units read p, and one linear layer for each tensor of the model
    gives it. Each step draws one p from Dirichlet(`concentration`) and takes a step down `scalarization`, by
    default the paper's linear one, sum_i p_i f_i(theta).

    optimizer: parameters, learning rate -> optimizer. By default the landscape's own at a tenth of the rate:
    a small move of h moves all the weights, so that rates which suit the model itself are too large here, and
    with the tenth one grid serves every solver. The authors' is `torch.optim.Adam`, with a rate of 1e-4.

    Use it for small models. Not for large ones: the last layer has `hidden` times the model's parameters.

    Source: Navon et al. 2021 (PHN-LS); sizes and the drawing as in the authors' code, which offers Adam and
    SGD. Our reading: the optimizer, and that the biases of the last layer start at a model's own initial
    weights, so that any model starts well.

    >>> ParetoHyperNetwork(points=5).hidden
    100
    """

    def __init__(
        self,
        *,
        points: int = 11,
        hidden: int = 100,
        concentration: float = 1.0,
        scalarization: Scalarizer | None = None,
        optimizer: MakeOptimizer | None = None,
    ) -> None:
        super().__init__(points=points, concentration=concentration, scalarization=scalarization)
        if hidden < 1:
            raise ValueError(f"hidden is {hidden}; it must be at least 1")
        self.hidden = hidden
        self.make_optimizer = optimizer

    def start(self, landscape: Landscape, model: nn.Module, seed: int) -> Conditioned:
        return Hypernetwork(landscape.names, trained(model), hidden=self.hidden)

    def optimizer(
        self, landscape: Landscape, parameters: Iterable[nn.Parameter], learning_rate: float
    ) -> torch.optim.Optimizer:
        if self.make_optimizer is None:
            return super().optimizer(landscape, parameters, SHARE * learning_rate)
        return self.make_optimizer(parameters, learning_rate)
