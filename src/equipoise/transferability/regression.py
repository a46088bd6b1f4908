"""Regression: how well a linear map of the features fits labels that are numbers."""

from typing import Any

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample

CARD = Card(
    name="Regression",
    shape="score",
    needs=("features", "labels"),
    summary="Minus the mean squared error of the best linear fit of the labels",
    formula="-min_W |F W - Y|^2 / (N K)",
    title="ETran: Energy-Based Transferability Estimation",
    authors=("Gholami", "Akbari", "Wang", "Kamranian", "Zhang"),
    venue="ICCV",
    year=2023,
    arxiv="2308.02027",
    guarantees=("FEATURE_SCALE_INVARIANT",),
    cost="one pass and one eigendecomposition",
    use="labels that are numbers, with many more samples than features",
    avoid="few samples: with N <= D every model fits without error (LogME)",
    single="a number at most 0",
    status="experimental",
    evidence="transferability",
)


def regression(features: Any = None, labels: Any = None, probabilities: Any = None) -> float:
    """Minus the mean squared error of the least-squares fit of the labels by the features; at most 0.

    features: (N, D), or a Sample. labels: (N,) or (N, K) numbers; classes are taken as columns of 0 and 1.

    Source: Gholami et al. 2023, section 3.3; their code reads a value that is never set, and this is what it
    was to be.

    >>> round(regression([[1.0], [2.0]], [2.0, 4.0]), 6) + 0.0
    0.0
    """
    found = Sample.of(features, labels, probabilities).moments
    _, projected = found.spectrum
    residual = found.target_squares - (projected**2).sum(0)
    return -float(max(residual.sum(), 0.0) / (found.size * len(residual)))
