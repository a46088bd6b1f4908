"""ResidualTrees: a law, and boosted trees for what it leaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from equipoise.core.card import Card
from equipoise.scaling.effectivedata import EffectiveData
from equipoise.scaling.form import Array
from equipoise.scaling.law import Law
from equipoise.scaling.runs import Features
from equipoise.scaling.single import Single

CARD = Card(
    name="ResidualTrees",
    shape="law",
    summary="A law, and gradient-boosted trees for what it leaves.",
    formula="log L = log law(N, D, p) + trees(N, D, p)",
    title="RegMix: Data Mixture as Regression for Language Model Pre-training",
    authors=(
        "Qian Liu",
        "Xiaosen Zheng",
        "Niklas Muennighoff",
        "Guangtao Zeng",
        "Longxu Dou",
        "Tianyu Pang",
        "Jing Jiang",
        "Min Lin",
    ),
    venue="ICLR",
    year=2025,
    arxiv="2407.01492",
    single="one loss",
    cost="the law, and 100 small trees a loss",
    use="some hundred runs and more, to interpolate among them",
    avoid="extrapolation, of which trees know nothing; fewer than 60 runs",
    status="experimental",
    evidence="regmix_runs",
)


@dataclass(eq=False)
class TreesSingle(Single):
    """A fit of the law, and trees on the logarithm of what it left."""

    law: Single
    trees: Any

    @property
    def coefficients(self) -> dict[str, float]:
        """Those of the law."""
        return self.law.coefficients

    def predict(self, x: Features) -> Array:
        return self.law.predict(x) * np.exp(self.trees.predict(table(x)))

    def draws(self, x: Features) -> Array:
        return self.law.draws(x) * np.exp(self.trees.predict(table(x)))

    def spread(self) -> dict[str, float]:
        return self.law.spread()

    def flags(self) -> list[str]:
        return self.law.flags()

    def plain(self) -> dict[str, Any]:
        return {**super().plain(), "law": self.law.plain()}


def table(x: Features) -> Array:  # -> (n, features)
    """N and D as logarithms, and the mixture."""
    parts = [np.log(part)[:, None] for part in (x.N, x.D) if part is not None]
    return np.concatenate([*parts, *([] if x.p is None else [x.p])], 1)


@dataclass(frozen=True)
class ResidualTrees(Law):
    """Any law times the exponential of gradient-boosted trees, which learn the logarithm of what it left.

    law: `EffectiveData()` unless said otherwise. The trees are scikit-learn's, small ones with a low rate,
    and are not refitted for intervals, which are those of the law.

    Source: after Liu et al. 2025 (RegMix), whose trees have no law beneath.
    """

    law: Law = field(default_factory=EffectiveData)
    usual: ClassVar[float] = 1e-2

    def usable(self, x: Features, own: int) -> Array:
        return self.law.usable(x, own)

    def single(self, x: Features, y: Array, own: int, *, delta: float, weights: Array) -> Single:
        return _with_trees(self.law.single(x, y, own, delta=delta, weights=weights), x, y)

    def restored(self, x: Features, y: Array, own: int, held: Mapping[str, Any]) -> Single:
        return _with_trees(self.law.restored(x, y, own, held["law"]), x, y)


def _with_trees(law: Single, x: Features, y: Array) -> TreesSingle:
    """Trees on what a law left; the same for the same runs."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # takes longer to import than a fit

    trees = HistGradientBoostingRegressor(
        max_iter=100,
        learning_rate=0.1,
        max_leaf_nodes=8,
        min_samples_leaf=5,
        l2_regularization=1.0,
        random_state=0,
    )
    trees.fit(table(x), np.log(y) - np.log(law.predict(x)))
    return TreesSingle(law, trees)
