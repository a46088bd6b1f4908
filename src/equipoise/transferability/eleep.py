"""E-LEEP: LEEP of the averaged prediction of a set of sources."""

from collections.abc import Mapping

import numpy as np

from equipoise.core.card import Card
from equipoise.transferability.leep import expected
from equipoise.transferability.sample import Sample

CARD = Card(
    name="ELEEP",
    shape="score",
    needs=("labels", "probabilities", "pool"),
    summary="The log likelihood of the labels under the mean prediction of a set of sources",
    formula="mean_i log (1 / |S|) sum_{k in S} p_k(y_i | x_i), p_k the expected empirical predictor of k",
    title="Transferability Metrics for Selecting Source Model Ensembles",
    authors=("Agostinelli", "Uijlings", "Mensink", "Ferrari"),
    venue="CVPR",
    year=2022,
    arxiv="2111.13011",
    guarantees=("FEATURE_SCALE_INVARIANT",),
    cost="LEEP of each source",
    use="sources whose predictions will be averaged",
    avoid="sources without a classifier; a set chosen by lazy greedy, since it is not submodular",
    single="LEEP of that source",
    evidence="osborn",
)


def eleep(pool: Mapping[str, Sample], *, logarithm: bool = True) -> float:
    """The mean log probability of the labels under the average of the sources' predictors; at most 0.

    p_k is the expected empirical predictor of source k, which LEEP takes the likelihood of. Higher is
    better. `logarithm=False` gives the mean probability.

    pool: the sample of each source by name, with the same labels and probabilities (N, Z_k).
    Raises ValueError for an empty pool and for samples of unlike labels, by name.

    Source: Agostinelli et al. 2022, section 3.

    >>> sure = Sample(labels=[0, 1], probabilities=[[1.0, 0.0], [0.0, 1.0]])
    >>> eleep({"a": sure, "b": sure})
    0.0
    """
    likelihood = np.mean(predictions(pool), axis=0)
    return float(np.log(likelihood).mean() if logarithm else likelihood.mean())


def predictions(pool: Mapping[str, Sample]) -> list[np.ndarray]:
    """What the predictor of each source gives the labels, (N,) each; the labels must be the same."""
    if not pool:
        raise ValueError("the pool holds no models")
    first, *others = pool
    for name in others:
        if not np.array_equal(pool[name].classes[pool[name].labels], pool[first].classes[pool[first].labels]):
            raise ValueError(
                f"{first} and {name} have unlike labels; give the same samples in the same order"
            )
    return [expected(sample) for sample in pool.values()]
