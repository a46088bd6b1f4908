"""Transfer Score: a model adapted to an unlabelled domain, judged without labels."""

from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import entr

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample

Array = np.ndarray
CARD = Card(
    name="TransferScore",
    shape="score",
    needs=("features", "probabilities", "weights"),
    summary="Even classifier weights, features in clusters, predictions that are sure and varied; no labels",
    formula="H + (H(mean p) - mean H(p)) / log K - mean_{i<j} (angle(w_i, w_j) - arccos(-1 / (K - 1)))^2",
    title="Can We Evaluate Domain Adaptation Models Without Target-Domain Labels?",
    authors=("Yang", "Qian", "Xu", "Wang", "Xie"),
    venue="ICLR",
    year=2024,
    arxiv="2305.18712",
    guarantees=("FEATURE_SCALE_INVARIANT", "RANDOM"),
    cost="N K and share N^2 D",
    use="which adapted model, hyper-parameter or epoch to keep, on an unlabelled target",
    avoid="targets whose classes are far from even: varied predictions count as good",
    single="a number, at most 2",
    status="main",
    evidence="uda_transfer_score",
)


def transferscore(
    features: Any = None,
    labels: Any = None,
    probabilities: Any = None,
    *,
    weights: Any,
    share: float = 0.05,
    seed: int = 0,
) -> float:
    """Clustering of target features plus certainty of predictions less unevenness of the classifier.

    H is the Hopkins statistic of the features (`hopkins`), the second term the mutual information of samples
    and predicted classes over log K (`certainty`), the third `unevenness` of the weights. Higher is better;
    labels are not looked at.

    features: (N, D), or a Sample. probabilities: (N, K). weights: (K, D) of the last layer, a row for each
    class. `share` of the samples, one at least, is drawn from `seed` for H: another order of the samples is
    another draw, and moves H by some hundredths at a few hundred samples. Raises ValueError for weights
    that do not have a row for each of two or more classes, and a share that is not above 0 and at most 1.

    Source: Yang et al. 2024, equations 2 to 5; share and mean squares as in the authors' code.

    >>> weights = [[1.0, 0.0], [-1.0, 0.0]]
    >>> x, p = [[5.0, 0.0], [5.0, 0.0], [-5.0, 1.0], [-5.0, 1.0]], np.eye(2)[[0, 0, 1, 1]]
    >>> transferscore(x, probabilities=p, weights=weights)
    2.0
    """
    sample = Sample.of(features, labels, probabilities)
    said = sample.probabilities
    rows = np.asarray(weights.detach().cpu() if hasattr(weights, "detach") else weights, float)
    if rows.ndim != 2 or rows.shape[0] != said.shape[1] or len(rows) < 2 or not np.isfinite(rows).all():
        raise ValueError(
            f"{sample.name}: weights have shape {rows.shape}; give finite ones with a row for each of the "
            f"{said.shape[1]} classes, two at least"
        )
    return hopkins(sample.features, share=share, seed=seed) + certainty(said) - unevenness(rows)


def hopkins(features: Array, *, share: float = 0.05, seed: int = 0) -> float:  # (N, D)
    """The Hopkins statistic, from 0 to 1: near 1 where samples lie in clusters, 1/2 where evenly.

    sum u / (sum u + sum w): u is the distance of points drawn evenly from the features' box to the nearest
    sample, w that of as many drawn samples to their nearest neighbour. 0.5 where all samples coincide.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    n = len(features)
    if n < 2:
        raise ValueError(f"the Hopkins statistic needs two samples, got {n}")
    draw = np.random.default_rng(seed)
    count = max(1, int(share * n))
    points = draw.uniform(features.min(0), features.max(0), (count, features.shape[1]))
    chosen = draw.choice(n, count, replace=False)
    outside = float(cdist(points, features).min(1).sum())
    distances = cdist(features[chosen], features)
    distances[np.arange(count), chosen] = np.inf
    inside = float(distances.min(1).sum())
    return outside / (outside + inside) if outside + inside > 0 else 0.5


def certainty(probabilities: Array) -> float:  # (N, K)
    """The mutual information of sample and predicted class over log K: 1 where sure and all classes even."""
    mean = probabilities.mean(0)
    return float((entr(mean).sum() - entr(probabilities).sum(1).mean()) / np.log(len(mean)))


def unevenness(weights: Array) -> float:  # (K, D)
    """How far angles between the weights of classes are from those of a regular simplex, in mean squares.

    Weights that are zero are taken to be at a right angle to all.
    """
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    unit = weights / np.where(lengths > 0, lengths, 1)
    count = len(weights)
    angles = np.arccos(np.clip(unit @ unit.T, -1, 1))[np.triu_indices(count, 1)]
    return float(((angles - np.arccos(-1 / (count - 1))) ** 2).mean())
