"""MS-LEEP: the LEEP of all sources of a set together."""

from collections.abc import Mapping

import numpy as np

from equipoise.core.card import Card
from equipoise.transferability.eleep import predictions
from equipoise.transferability.sample import Sample

CARD = Card(
    name="MSLEEP",
    shape="score",
    needs=("labels", "probabilities", "pool"),
    summary="The sum of the LEEP of each source of a set, as if they predicted independently",
    formula="sum_{k in S} LEEP(k)",
    title="Transferability Metrics for Selecting Source Model Ensembles",
    authors=("Agostinelli", "Uijlings", "Mensink", "Ferrari"),
    venue="CVPR",
    year=2022,
    arxiv="2111.13011",
    guarantees=("FEATURE_SCALE_INVARIANT",),
    cost="LEEP of each source",
    use="a baseline for sets of one size: it takes the best sources one by one",
    avoid="sets of unlike size: each source lowers it; sources that repeat each other count in full",
    single="LEEP of that source",
    evidence="osborn",
)


def msleep(pool: Mapping[str, Sample]) -> float:
    """The sum over sources of the mean log probability that LEEP's predictor gives the labels; at most 0.

    Higher is better, among sets of one size. It is modular: the best set of k are the k best sources.

    pool: the sample of each source by name, with the same labels and probabilities (N, Z_k).
    Raises ValueError for an empty pool and for samples of unlike labels, by name.

    Source: Agostinelli et al. 2022, section 3.

    >>> sample = Sample(labels=[0, 1], probabilities=[[0.5, 0.5], [0.5, 0.5]])
    >>> round(msleep({"a": sample, "b": sample}), 4)
    -1.3863
    """
    return float(sum(np.log(likelihood).mean() for likelihood in predictions(pool)))
