"""LogisticProbe: the cross-validated accuracy of logistic regression on the features."""

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from equipoise.core.card import Card
from equipoise.transferability.knn import hits
from equipoise.transferability.moments import standardised
from equipoise.transferability.sample import Sample

Array = np.ndarray
CARD = Card(
    name="LogisticProbe",
    shape="score",
    needs=("features", "labels"),
    summary="The cross-validated accuracy of logistic regression, a plain baseline",
    formula="the share of samples that a fit on the other folds gives their label",
    title="Which Model to Transfer? Finding the Needle in the Growing Haystack",
    authors=("Renggli", "Pinto", "Rimanic", "Puigcerver", "Riquelme", "Zhang", "Lucic"),
    venue="CVPR",
    year=2022,
    arxiv="2010.06402",
    guarantees=("FEATURE_SCALE_INVARIANT", "RANDOM"),
    cost="a fit of at most 200 steps for each fold, on at most `limit` samples: among the slowest here",
    use="where ridge regression's accuracy is in doubt",
    avoid="a look in a hurry (RidgeProbe)",
    single="an accuracy, 0 to 1",
    status="main",
    evidence="transferability",
)
STEPS = 200


def logisticprobe(
    features: Any = None,
    labels: Any = None,
    probabilities: Any = None,
    *,
    strength: float = 1.0,
    folds: int = 5,
    limit: int = 2000,
    seed: int = 0,
) -> float:
    """The accuracy of multinomial logistic regression on standardised features over stratified folds.

    `strength` is the inverse of the penalty on squared coefficients, C of scikit-learn. Of more than `limit`
    samples so many are drawn. Samples are dealt to folds class by class, from `seed`, so that their order
    changes the accuracy as another seed would. A fit stops after 200 steps.

    features: (N, D), or a Sample. labels: (N,) classes. Raises ValueError for fewer than two samples or
    folds.

    Source: Renggli et al. 2022, section 3, linear proxies; folds and penalty are ours.

    >>> logisticprobe([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]], [0, 0, 0, 1, 1, 1], folds=3)
    1.0
    """
    sample = Sample.of(features, labels, probabilities)
    places = sample.labels
    if min(folds, limit, len(places)) < 2:
        raise ValueError(
            f"{sample.name}: {len(places)} samples, {folds} folds and a limit of {limit} samples are given; "
            "cross-validation needs two of each"
        )
    draw = np.random.default_rng(seed)
    chosen, x = sample.drawn(limit, draw)
    x, places = standardised(x), places[chosen]
    if x.shape[0] < x.shape[1]:  # a rotation changes no fit, and fewer columns are faster
        left, singular, _ = np.linalg.svd(x, full_matrices=False)
        x = left * singular
    order = np.concatenate([draw.permutation(np.flatnonzero(places == c)) for c in np.unique(places)])
    fold = np.empty(len(x), int)
    fold[order] = np.arange(len(x)) % min(folds, len(x))
    right = sum(_right(x, places, fold == one, strength) for one in range(min(folds, len(x))))
    return right / len(x)


def _right(x: Array, places: Array, held: Array, strength: float) -> float:
    """How many of the samples held out get their label; a class is no rarer for those held out of it."""
    seen = np.unique(places[~held])
    if len(seen) < 2:
        return float((places[held] == seen[0]).sum())
    shares = np.bincount(places)[seen] / np.bincount(places[~held])[seen] * (~held).mean()
    weights = dict(zip(seen, shares, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=STEPS, class_weight=weights)
        model.fit(x[~held], places[~held])
    said = np.zeros((int(held.sum()), places.max() + 1))
    said[:, seen] = np.round(model.predict_proba(x[held]), 6)
    return float(hits(said, places[held]).sum())
