"""ParetoManifold: m networks whose weighted mean is the model of a preference."""

import torch
from torch import nn

from equipoise.core.card import Card
from equipoise.core.rule import Scalarizer
from equipoise.pareto.conditioned import Conditioned, Ensemble, trained
from equipoise.pareto.landscape import Landscape
from equipoise.pareto.learner import Learner

CARD = Card(
    name="ParetoManifold",
    shape="front",
    summary="Trains m networks together so that every weighted mean of them is a good trade-off.",
    formula="min E_p[sum_i p_i f_i(theta(p))] + lambda R, theta(p) = sum_i p_i theta_i",
    title="Pareto Manifold Learning: Tackling multiple tasks via ensembles of single-task models",
    authors=("Nikolaos Dimitriadis", "Pascal Frossard", "François Fleuret"),
    venue="ICML",
    year=2023,
    arxiv="2210.09759",
    single="the model that gradient descent finds",
    cost="`window` gradients a step, and m times the parameters",
    use="where the trade-off is to be chosen after training, among few objectives",
    avoid="with many objectives, for memory; where the losses lie apart by barriers that no mean crosses",
    status="experimental",
    evidence="pareto_manifold",
)


class ParetoManifold(Learner):
    """Trains m networks together so that every weighted mean of them is a good trade-off.

    theta(p) = sum_i p_i theta_i; each step draws p from Dirichlet(`concentration`) `window` times, W in the
    paper, and lowers the sum of sum_i p_i f_i(theta(p)) plus `monotony`, lambda, times the multi-forward
    regulariser (`disorder`). The m networks start apart, each drawn on its own.

    window, monotony: the paper sets them for each data set; by default 3 and 1, those of its UTKFace (2 and 5
    on Census, lambda = 0 on MultiMNIST). `points`: preferences at which `trace` samples the front.

    Use it where the trade-off is chosen after training. Not with many objectives: it holds m networks.

    Source: Dimitriadis et al. 2023, without its balancing of losses or gradients. Our reading: the
    regulariser charges losses that are out of order, as its purpose asks; the authors' code sorts the
    other way round.

    >>> ParetoManifold(points=5).window
    3
    """

    def __init__(
        self,
        *,
        points: int = 11,
        concentration: float = 1.0,
        window: int = 3,
        monotony: float = 1.0,
        scalarization: Scalarizer | None = None,
    ) -> None:
        super().__init__(
            points=points,
            concentration=concentration,
            window=window,
            monotony=monotony,
            scalarization=scalarization,
        )

    def start(self, landscape: Landscape, model: nn.Module, seed: int) -> Conditioned:
        drawn = torch.randint(2**31, (len(landscape.names),), generator=torch.Generator().manual_seed(seed))
        models = [model, *(landscape.model(int(number)) for number in drawn[1:])]
        bases = [trained(one) for one in models]
        return Ensemble(landscape.names, bases[0], bases=bases)
