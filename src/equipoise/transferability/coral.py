"""CORAL: the distance between the covariances of two sets of features."""

from typing import Any

from equipoise.core.card import Card
from equipoise.transferability.frechet import both, covariance

CARD = Card(
    name="CORAL",
    shape="score",
    needs=("features", "source"),
    summary="How unlike the covariances of two sets of features are",
    formula="|C_s - C_t|_F^2 / (4 D^2)",
    title="Deep CORAL: Correlation Alignment for Deep Domain Adaptation",
    authors=("Sun", "Saenko"),
    venue="ECCV Workshops",
    year=2016,
    arxiv="1607.01719",
    cost="one pass over each set: N D^2",
    use="two domains under one model, in chunks if need be",
    avoid="domains that differ in their means: it does not see them",
    single="a distance, 0 where covariances agree: lower is nearer",
    status="main",
    evidence="transferability",
)


def coral(source: Any, target: Any) -> float:
    """The squared Frobenius distance of the covariances of two sets of features, over 4 D^2.

    Covariances are divided by N - 1. Means do not count. Lower is nearer; a factor on all features counts
    with its fourth power.

    source: (M, D), target: (N, D) features of one model, arrays, Samples or functions that give chunks; only
    moments are kept. Raises ValueError for unlike widths, NaN, and sets of one sample.

    Source: Sun & Saenko 2016, equation 1.

    >>> coral([[0.0], [2.0]], [[0.0], [4.0]])
    9.0
    """
    one, other = both(source, target)
    apart = covariance(one) - covariance(other)
    return float((apart**2).sum() / (4 * one.width**2))
