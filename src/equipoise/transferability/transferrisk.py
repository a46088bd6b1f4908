"""Transfer risk: how far source and target data are apart, and how badly the source's output fits."""

from typing import Any

from equipoise.core.card import Card
from equipoise.transferability.frechet import both, covariance, frechet
from equipoise.transferability.leep import leep
from equipoise.transferability.sample import Sample

CARD = Card(
    name="TransferRisk",
    shape="score",
    needs=("features", "labels", "probabilities", "source"),
    summary="Minus the distance of source and target inputs and the loss of the source's output on it",
    formula="-(W_2^2(source, target) / tr(C_s + C_t) + weight times -LEEP)",
    title="Transfer Learning for Portfolio Optimization",
    authors=("Cao", "Gu", "Guo", "Rosenbaum"),
    venue="arXiv",
    year=2023,
    arxiv="2307.13546",
    guarantees=("FEATURE_SCALE_INVARIANT",),
    cost="one pass over each data set and two eigendecompositions",
    use="which source data to start from, with both data sets under one model",
    avoid="fewer samples than features: the distance is too high then",
    single="a number at most 0",
    evidence="transferability",
)


def transferrisk(
    features: Any = None,
    labels: Any = None,
    probabilities: Any = None,
    *,
    source: Any,
    weight: float = 1.0,
) -> float:
    """Minus a risk of input and a risk of output; at most 0, higher is better.

    The risk of input is the squared 2-Wasserstein distance of the Gaussians of source and target features
    over the sum of their variances; the risk of output, times `weight`, is the loss that the source's
    predictions leave on the target labels, minus LEEP. The paper speaks of portfolios, where both are made of
    returns; this form for features and classes is our reading.

    features, labels, probabilities: (N, D), (N,), (N, Z) of the target, or a Sample. source: (M, D) features
    of the source's data under the same model. Scale invariant where both are scaled.
    Raises ValueError for unlike widths and a weight below 0.

    Source: Cao et al. 2023, after the abstract.

    >>> target = Sample([[0.0], [1.0]], [0, 1], [[1.0, 0.0], [0.0, 1.0]])
    >>> transferrisk(target, source=[[0.0], [1.0]])
    0.0
    """
    if weight < 0:
        raise ValueError(f"weight must be 0 or more, got {weight}")
    sample = Sample.of(features, labels, probabilities)
    one, other = both(source, sample)
    spread = float(covariance(one).trace() + covariance(other).trace())
    apart = frechet(source, sample)
    if not spread > 0:
        apart, spread = float(((one.mean - other.mean) ** 2).sum() > 0), 1.0
    return -(apart / spread - weight * leep(sample)) + 0.0
