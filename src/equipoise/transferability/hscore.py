"""H-score: how much of the features' variance lies between the classes, seen through their covariance."""

from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from equipoise.core.card import Card
from equipoise.transferability.moments import Moments
from equipoise.transferability.sample import Sample

CARD = Card(
    name="HScore",
    shape="score",
    needs=("features", "labels"),
    summary="The variance between classes in units of the whole variance, summed over all directions",
    formula="tr(cov(F)^+ cov(E[F | y])), at most C - 1; with Ledoit-Wolf shrinkage a of cov(F), times 1 - a",
    title="An Information-Theoretic Approach to Transferability in Task Transfer Learning",
    authors=("Bao", "Li", "Huang", "Zhang", "Zheng", "Zamir", "Guibas"),
    venue="ICIP",
    year=2019,
    arxiv="2212.10082",
    guarantees=("FEATURE_SCALE_INVARIANT",),
    cost="one pass and one factorisation: N D^2 + D^3",
    use="many samples for the width, or any with shrinkage=True",
    avoid="fewer samples than features without shrinkage: it is C - 1 for every model then",
    single="a number from 0 to C - 1",
    status="main",
    evidence="transferability",
)


def hscore(
    features: Any = None, labels: Any = None, probabilities: Any = None, *, shrinkage: bool = False
) -> float:
    """tr(cov(F)^+ cov(E[F | y])): how far classes lie apart, in units of the covariance of all features.

    From 0 to C - 1, higher is better. `shrinkage` takes the covariance that Ledoit and Wolf's estimate
    shrinks by a towards a multiple of the identity, and multiplies the covariance of the class means by
    1 - a, as Ibrahim, Ponomareva and Mazumder do (arXiv 2110.06893); the latter is divided by N - 1, as in
    tllib, the former by N.

    features: (N, D), or a Sample. labels: (N,) classes.

    Source: Bao et al. 2019, definition 2.

    >>> round(hscore([[0.0], [0.0], [1.0], [1.0]], [0, 0, 1, 1]), 6)
    1.0
    """
    sample = Sample.of(features, labels, probabilities)
    sample.labels  # noqa: B018 - refuses labels that are no classes
    found = sample.moments
    if shrinkage:
        return _shrunk(sample, found)
    values, axes = found.standard_axes
    projected = (found.between / found.deviations) @ axes
    return float((projected**2 / values).sum())


def _shrunk(sample: Sample, found: Moments) -> float:
    if found.rows is not None:  # the class means lie on the axes, so that no (D, D) matrix is needed
        values, axes = found.axes
        if not values.size:
            return 0.0
        mean = values.sum() / found.size / found.width
        weight = ledoit_wolf(sample, found, float((values**2).sum()) / found.size**2, mean)
        projected = (found.between @ axes) ** 2 / (found.size - 1)
        return float((1 - weight) * (projected / ((1 - weight) * values / found.size + weight * mean)).sum())
    covariance = found.scatter / found.size
    mean = covariance.trace() / found.width
    if not mean > 0 or found.size < 2:
        return 0.0
    weight = ledoit_wolf(sample, found, float((covariance**2).sum()), mean)
    shrunk = (1 - weight) * covariance + weight * mean * np.eye(found.width)
    between = found.between / np.sqrt(found.size - 1)
    solved = cho_solve(cho_factor(shrunk), between.T)
    return float((1 - weight) * (between.T * solved).sum())


def ledoit_wolf(sample: Sample, found: Moments, squares: float, mean: float) -> float:
    """The weight of the identity in Ledoit and Wolf's estimate (2004, equations 9 to 12), streamed.

    squares: the sum of squares of the covariance, mean: that of its diagonal.
    """
    d = found.width
    delta = (squares - d * mean**2) / d
    fourth = sum(
        float(((chunk - found.mean) ** 2).sum(1) @ ((chunk - found.mean) ** 2).sum(1))
        for chunk in sample.chunks()
    )
    beta = (fourth / found.size - squares) / (d * found.size)
    return 0.0 if not delta > 0 or not beta > 0 else float(min(beta, delta) / delta)
