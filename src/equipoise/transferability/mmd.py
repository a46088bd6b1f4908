"""MMD: the distance between two sets of features in the space of a Gaussian kernel."""

from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample

Array = np.ndarray
CARD = Card(
    name="MMD",
    shape="score",
    needs=("features", "source"),
    summary="How far apart two sets of features lie, by the means of a Gaussian kernel within and between",
    formula="E k(s, s') + E k(t, t') - 2 E k(s, t), k = exp(-|a - b|^2 / (2 w^2)), w the median distance",
    title="A Kernel Two-Sample Test",
    authors=("Gretton", "Borgwardt", "Rasch", "Schölkopf", "Smola"),
    venue="JMLR",
    year=2012,
    guarantees=("FEATURE_SCALE_INVARIANT", "RANDOM"),
    cost="all pairs of at most `limit` samples of each set: limit^2 D",
    use="two domains under one model that differ in more than mean and covariance",
    avoid="many features that do not matter: distances say little then",
    single="a squared distance, about 0 where alike: lower is nearer",
    status="main",
    evidence="transferability",
)


def mmd(
    source: Any,
    target: Any,
    *,
    bandwidth: float | None = None,
    unbiased: bool = True,
    limit: int = 2000,
    seed: int = 0,
) -> float:
    """The squared maximum mean discrepancy of two sets of features under a Gaussian kernel.

    E k(s, s') + E k(t, t') - 2 E k(s, t) with k(a, b) = exp(-|a - b|^2 / (2 w^2)). `bandwidth` is w, by
    default the median distance over all pairs of samples of both sets, so that a factor on all features
    counts for nothing. `unbiased` leaves out pairs of a sample with itself: the value is 0 in the mean where
    both come from one distribution, and may be negative; else it is 0 for equal sets and never negative.

    source: (M, D), target: (N, D) features of one model, arrays or Samples. At most `limit` of each count,
    drawn from `seed`. Raises ValueError for unlike widths, NaN, sets of one sample, and a bandwidth that is
    not positive.

    Source: Gretton et al. 2012, lemma 6, and the median heuristic of their section 8.

    >>> mmd([[0.0], [1.0]], [[0.0], [1.0]], unbiased=False)
    0.0
    """
    if bandwidth is not None and not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}")
    draw = np.random.default_rng(seed)
    one, other = (drawn(*side, limit, draw) for side in (("source", source), ("target", target)))
    if one.shape[1] != other.shape[1]:
        raise ValueError(
            f"source features have {one.shape[1]} columns and target features {other.shape[1]}; they must "
            "come from the same model"
        )
    m = len(one)
    rows = np.concatenate([one, other])
    squares = cdist(rows, rows, "sqeuclidean")
    if bandwidth is None:
        width = float(np.median(squares[np.triu_indices(len(rows), 1)]))
        width = width if width > 0 else float(squares.mean())
    else:
        width = bandwidth**2
    kernel = np.exp(squares / (-2 * width)) if width > 0 else np.ones_like(squares)
    between = float(kernel[:m, m:].mean())
    if unbiased:
        return _mean_of_pairs(kernel[:m, :m]) + _mean_of_pairs(kernel[m:, m:]) - 2 * between
    return max(0.0, float(kernel[:m, :m].mean() + kernel[m:, m:].mean()) - 2 * between)


def drawn(what: str, given: Any, limit: int, draw: np.random.Generator) -> Array:  # -> (n, D)
    """The features of a set, or `limit` samples of them; two at least."""
    sample = given if isinstance(given, Sample) else Sample(given, name=f"the {what}")
    if sample.size < 2:
        raise ValueError(f"{sample.name}: {sample.size} samples; this distance needs two")
    return sample.drawn(limit, draw)[1]


def _mean_of_pairs(kernel: Array) -> float:
    n = len(kernel)
    return float((kernel.sum() - kernel.trace()) / (n * (n - 1)))
