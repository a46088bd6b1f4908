"""Frechet distance between the Gaussians of two sets of features."""

from typing import Any

import numpy as np

from equipoise.core.card import Card
from equipoise.transferability.moments import Moments, moments
from equipoise.transferability.sample import Sample

Array = np.ndarray
CARD = Card(
    name="Frechet",
    shape="score",
    needs=("features", "source"),
    summary="How far apart two sets of features lie, by their means and covariances",
    formula="|m_s - m_t|^2 + tr(C_s + C_t - 2 (C_s C_t)^(1/2))",
    title="GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
    authors=("Heusel", "Ramsauer", "Unterthiner", "Nessler", "Hochreiter"),
    venue="NeurIPS",
    year=2017,
    arxiv="1706.08500",
    cost="one pass over each set and two eigendecompositions: N D^2 + D^3",
    use="two domains under one model, in chunks if need be",
    avoid="fewer samples than features: it is too high by an amount that falls with N",
    single="a distance, 0 where means and covariances agree: lower is nearer",
    status="main",
    evidence="transferability",
)


def frechet(source: Any, target: Any) -> float:
    """The squared 2-Wasserstein distance of the Gaussians of two sets of features; 0 where they agree.

    |m_s - m_t|^2 + tr(C_s + C_t - 2 (C_s C_t)^(1/2)) with covariances divided by N - 1. Lower is nearer.

    source: (M, D), target: (N, D) features of one model, arrays, Samples or functions that give chunks; only
    moments are kept. Raises ValueError for unlike widths, NaN, and sets of one sample.

    Source: Heusel et al. 2017, equation 6.

    >>> frechet([[0.0], [2.0]], [[3.0], [5.0]])
    9.0
    """
    one, other = both(source, target)
    first, second = covariance(one), covariance(other)
    root = _root(first)
    values = np.linalg.eigvalsh(root @ second @ root)
    common = np.sqrt(np.maximum(values, 0)).sum()
    apart = float(((one.mean - other.mean) ** 2).sum())
    return max(0.0, apart + float(first.trace() + second.trace() - 2 * common))


def both(source: Any, target: Any) -> tuple[Moments, Moments]:
    """The moments of two sets of features of one width, two samples each at least."""
    found = []
    for what, given in (("source", source), ("target", target)):
        sample = given if isinstance(given, Sample) else Sample(given, name=f"the {what}")
        one = moments(((chunk, np.empty((len(chunk), 0))) for chunk in sample.chunks()), False)
        if one.size < 2:
            raise ValueError(f"{sample.name}: {one.size} samples; a covariance needs two")
        found.append(one)
    if found[0].width != found[1].width:
        raise ValueError(
            f"source features have {found[0].width} columns and target features {found[1].width}; they must "
            "come from the same model"
        )
    return found[0], found[1]


def covariance(found: Moments) -> Array:  # -> (D, D)
    """The covariance of the features, divided by N - 1."""
    return found.scatter / (found.size - 1)


def _root(matrix: Array) -> Array:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
