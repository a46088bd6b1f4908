"""RidgeProbe: the leave-one-out accuracy of a linear probe, in closed form."""

from typing import Any

import numpy as np

from equipoise.core.card import Card
from equipoise.transferability.knn import explained, hits
from equipoise.transferability.moments import Moments
from equipoise.transferability.sample import Sample

Array = np.ndarray
CARD = Card(
    name="RidgeProbe",
    shape="score",
    needs=("features", "labels"),
    summary="The leave-one-out accuracy of ridge regression onto the labels, a plain baseline",
    formula="y_-i = (y^_i - h_i y_i) / (1 - h_i), h the diagonal of 11'/N + X (X'X + lambda I)^-1 X'",
    title="Generalized Cross-Validation as a Method for Choosing a Good Ridge Parameter",
    authors=("Golub", "Heath", "Wahba"),
    venue="Technometrics",
    year=1979,
    doi="10.1080/00401706.1979.10489751",
    guarantees=("FEATURE_SCALE_INVARIANT",),
    cost="one eigendecomposition of the shared moments, and a second pass, N D (D + C)",
    use="beside every other score: it is nearly as cheap, and an accuracy says more",
    avoid="labels that no linear map can tell",
    single="an accuracy, 0 to 1; R^2 for numbers",
    status="main",
    evidence="transferability",
)
PENALTIES = np.logspace(-6, 3, 19)
"""What lambda is chosen from, in units of the largest eigenvalue of X'X."""


def ridgeprobe(
    features: Any = None, labels: Any = None, probabilities: Any = None, *, penalty: float | None = None
) -> float:
    """The leave-one-out accuracy of ridge regression from standardised features X onto the labels.

    Targets are 0 and 1 for each class, and the greatest prediction counts. Every sample is predicted by the
    regression on all others, which the diagonal of the hat matrix gives without fitting anew, the intercept
    included. For classes the intercept is then set back to the shares of all samples: without one of its own
    a class is rarer, and features that tell nothing would do worse than chance. lambda is `penalty` times the
    largest eigenvalue of X'X, by default the one of 19 from 1e-6 to 1e3 whose generalised cross-validation,
    summed over the targets, is lowest. For labels that are numbers the share of their variance that is
    explained so, R^2.

    features: (N, D), or a Sample, which may be streamed. labels: (N,) classes, or (N,), (N, K) numbers.
    Raises ValueError for one sample, and for a penalty that is not above 0.

    Source: Golub, Heath & Wahba 1979, equation 1.4; leaving one out as there in section 2.

    >>> ridgeprobe([[0.0], [0.1], [5.0], [5.1]], [0, 0, 1, 1])
    1.0
    """
    sample = Sample.of(features, labels, probabilities)
    if penalty is not None and not penalty > 0:
        raise ValueError(f"penalty must be above 0, got {penalty}")
    found = sample.moments
    if found.size < 2:
        raise ValueError(f"{sample.name}: leaving one out needs two samples")
    values, axes = found.standard_axes
    axes = axes / found.deviations[:, None]
    mean = found.target_total / found.size
    # sum (t - mean) (x - mean)' on the axes, and what targets vary in all
    products = (found.products - np.outer(found.target_total, found.total / found.size)) @ axes  # (K, k)
    scatter = np.maximum(found.target_squares - found.size * mean**2, 0)
    unit = values.max(initial=0.0) or 1.0
    if penalty is None:
        penalty = float(min(PENALTIES, key=lambda p: _validation(values, products, scatter, p * unit, found)))
    shrunk = values + penalty * unit
    coefficients = (products / shrunk).T  # (k, K)
    said = np.empty((0 if sample.is_classes else found.size, len(mean)))
    start, right = 0, 0.0
    for chunk in sample.chunks():
        rows = (chunk - found.mean) @ axes
        stop = start + len(chunk)
        leverage = (1 / found.size + (rows**2 / shrunk).sum(1))[:, None]
        targets = sample.targets(start, stop)
        without = (mean + rows @ coefficients - leverage * targets) / np.maximum(1 - leverage, 1e-12)
        if sample.is_classes:
            rarer = (targets - mean) / (found.size - 1)  # by how much its class is without the sample
            right += float(hits(without + rarer, sample.labels[start:stop]).sum())
        else:
            said[start:stop] = without
        start = stop
    return right / found.size if sample.is_classes else explained(said, sample.targets())


def _validation(values: Array, products: Array, scatter: Array, weight: float, found: Moments) -> float:
    """Generalised cross-validation: the squared residuals over the squared share of freedom left."""
    lost = weight / (values + weight)
    told = products**2 / values  # (K, k), what each axis explains without a penalty
    residual = (told * lost**2).sum() + np.maximum(scatter - told.sum(1), 0).sum()
    free = 1 - (1 + len(values) - lost.sum()) / found.size
    return float(residual / max(free, 1e-12) ** 2)
