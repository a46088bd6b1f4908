"""ModelSelector: the ranking of a pool as an estimator in the manner of scikit-learn."""

from collections.abc import Callable, Mapping
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from equipoise.transferability.pool import Pool
from equipoise.transferability.rank import rank
from equipoise.transferability.ranking import Ranking
from equipoise.transferability.sample import Sample


class ModelSelector(BaseEstimator):
    """Rank a pool of models for a target by one score; `fit` finds, attributes tell.

    score: a name, or a function of a sample. bootstrap: half-samples for the sureness, 0 for none. Fitted
    attributes: `ranking_`, the names from the best on; `scores_`, the value of each; `best_`, the first name;
    `firsts_`, the share of half-samples in which each is first; `result_`, the whole `Ranking`.

    >>> import numpy as np
    >>> y = np.arange(40) % 2
    >>> pool = {"noise": np.random.default_rng(0).standard_normal((40, 2)), "told": np.eye(2)[y]}
    >>> ModelSelector(score="gbc").fit(pool, y).ranking_
    ['told', 'noise']
    """

    def __init__(
        self, score: str | Callable[..., float] = "logme", *, bootstrap: int = 20, seed: int = 0
    ) -> None:
        self.score = score
        self.bootstrap = bootstrap
        self.seed = seed

    def fit(self, pool: Mapping[str, Any], y: Any = None) -> "ModelSelector":
        """Rank the pool: features (N, D) of each model, with labels `y`; or a Sample of each, or a Pool.

        Raises ValueError for `y` beside samples or a Pool, which bring theirs.
        """
        if isinstance(pool, Pool) and y is not None:
            raise ValueError("a Pool brings its labels; give no others beside it")
        samples = (
            pool if isinstance(pool, Pool) else Pool({n: _sample(n, found, y) for n, found in pool.items()})
        )
        self.result_: Ranking = rank(
            samples, scores=[self.score], probes=False, bootstrap=self.bootstrap, seed=self.seed
        )
        self.ranking_: list[str] = self.result_.order()
        self.scores_: dict[str, float] = dict(self.result_.column().values)
        self.firsts_: dict[str, float] = self.result_.firsts()
        self.best_: str = self.ranking_[0]
        return self

    def predict(self, pool: Mapping[str, Any]) -> Any:
        """What a pool holds under the name of the best model."""
        check_is_fitted(self)
        return pool[self.best_]


def _sample(name: str, found: Any, labels: Any) -> Sample:
    if isinstance(found, Sample):
        if labels is not None:
            raise ValueError(f"{name}: a Sample brings its labels; give no others beside it")
        return found
    return Sample(found, labels, name=name)
