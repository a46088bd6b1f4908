"""LowRankFront: one network, and an update of low rank for each objective, mixed by the preference."""

import numpy as np
from torch import Tensor, nn

from equipoise.core.card import Card
from equipoise.core.rule import Scalarizer
from equipoise.pareto.conditioned import Conditioned, LowRank, trained
from equipoise.pareto.landscape import Landscape
from equipoise.pareto.learner import Learner

CARD = Card(
    name="LowRankFront",
    shape="front",
    summary="Trains one network with a low-rank update for each objective, mixed by the preference.",
    formula="theta(p) = theta_0 + s sum_i p_i B_i A_i for each matrix",
    title="Efficient Pareto Manifold Learning with Low-Rank Structure",
    authors=("Weiyu Chen", "James T. Kwok"),
    venue="ICML",
    year=2024,
    arxiv="2407.20734",
    single="the model that gradient descent finds",
    cost="`window` gradients a step, and m r (rows + columns) more parameters for each matrix",
    use="where the trade-off is to be chosen after training, among many objectives or in a large model",
    avoid="where objectives want models that share little",
    status="experimental",
    evidence="pareto_manifold",
)


class LowRankFront(Learner):
    """Trains one network with a low-rank update for each objective, mixed by the preference.

    theta(p) = theta_0 + s sum_i p_i B_i A_i for each matrix, with r `rank` and s `scale`. Trained as
    ParetoManifold is, with `orthogonality` times the overlap of the updates of different objectives added,
    cos(u, v)^2 |u| |v| (of three drawn objectives where there are more). theta_0 is frozen once the share
    `freeze` of the training is done.

    Use it with many objectives or large models. Not where objectives want models that share little.

    Source: Chen and Kwok 2024 (LORPMAN); scale, freezing, window and monotony as on its UTKFace. Our reading:
    vectors get an update that is a vector, and the overlap is of whole updates, weighed by their lengths,
    since cosines alone would pull without bound at updates that start at zero.

    >>> LowRankFront(points=5).rank
    8
    """

    def __init__(
        self,
        *,
        points: int = 11,
        rank: int = 8,
        scale: float = 1.0,
        orthogonality: float = 1.0,
        freeze: float = 0.8,
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
        if rank < 1:
            raise ValueError(f"rank is {rank}; it must be at least 1")
        if not 0 <= freeze <= 1:
            raise ValueError(f"freeze is {freeze}; it is a share of the training, from 0 to 1")
        if not orthogonality >= 0:
            raise ValueError(f"orthogonality is {orthogonality}; it must be at least 0")
        self.rank = rank
        self.scale = scale
        self.orthogonality = orthogonality
        self.freeze = freeze

    def start(self, landscape: Landscape, model: nn.Module, seed: int) -> Conditioned:
        return LowRank(landscape.names, trained(model), rank=self.rank, scale=self.scale)

    def pass_by(self, conditioned: Conditioned, share: float) -> None:
        if isinstance(conditioned, LowRank) and share >= self.freeze:
            conditioned.freeze()

    def penalty(self, conditioned: Conditioned, generator: np.random.Generator) -> Tensor | None:
        m = len(conditioned.names)
        if not self.orthogonality or m < 2 or not isinstance(conditioned, LowRank):
            return None
        chosen = range(m) if m <= 3 else generator.choice(m, 3, replace=False).tolist()
        return self.orthogonality * conditioned.overlap(chosen)
