"""SFDA: self-challenging Fisher discriminant analysis."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import softmax

from equipoise.core.card import Card
from equipoise.transferability.moments import Moments
from equipoise.transferability.sample import Sample

Array = np.ndarray
CARD = Card(
    name="SFDA",
    shape="score",
    needs=("features", "labels"),
    summary="How sure a discriminant analysis is of the labels after its sure samples were made harder",
    formula="mean_i p(y_i | x~_i), x~ mixed with the means of other classes as far as the first fit is sure",
    title="Not All Models Are Equal: Predicting Model Transferability in a Self-challenging Fisher Space",
    authors=("Shao", "Zhao", "Ge", "Zhang", "Yang", "Wang", "Shan", "Luo"),
    venue="ECCV",
    year=2022,
    arxiv="2207.03036",
    cost="two fits by one Cholesky each and three passes: N D^2 + D^3",
    use="classes, with more samples than features",
    avoid="features of unlike scale from model to model: the shrinkage depends on it",
    single="a mean probability, 0 to 1",
    status="main",
    evidence="transferability",
)


def sfda(
    features: Any = None, labels: Any = None, probabilities: Any = None, *, logarithm: bool = False
) -> float:
    """The mean probability of the labels under a shrunk discriminant analysis of self-challenged features.

    A linear discriminant analysis with S_w shrunk by a = exp(-5 lambda_max(S_w)) towards tr(S_w) / D I says
    p(y | x). Each x then becomes q x + (1 - q) times the mean of the other classes' means, q the soft-max of
    p at the label, and the analysis is fitted again with the same a. Higher is better. `logarithm` gives the
    mean log probability.

    features: (N, D), or a Sample; they are not written into. labels: (N,) classes, two at least.

    The authors' code solves a generalised eigenproblem; all its directions are kept, so that the result is
    S_w^-1 M, which one Cholesky gives.

    Source: Shao et al. 2022, equations 4 to 9; q and the mean probability as in the authors' code.

    >>> 0 < sfda([[0.0], [0.2], [1.0], [1.2]], [0, 0, 1, 1]) <= 1
    True
    """
    sample = Sample.of(features, labels, probabilities)
    places, classes, whole = sample.labels, len(sample.classes), sample.moments
    if classes < 2:
        raise ValueError(f"{sample.name}: a discriminant analysis needs two classes; labels hold one")
    start = np.ones(whole.width)
    if whole.rows is not None:  # everything lies in the span of the centred rows
        left, singular, right = np.linalg.svd(whole.centred, full_matrices=False)
        sample, start = sample.with_features(left * singular), right.sum(1)
    found = sample.moments
    weight = shrinkage(found.within / found.size, start)
    first = Analysis(found, weight, whole.width)
    others = (found.means.sum(0) - found.means) / (classes - 1)

    def labelled() -> Iterator[tuple[Array, slice]]:
        at = 0
        for chunk in sample.chunks():
            yield chunk, slice(at, at + len(chunk))
            at += len(chunk)

    sure = [_at(softmax(first(chunk), 1), places[part]) for chunk, part in labelled()]
    confidence = np.concatenate(sure)[:, None]

    def mixed() -> Iterator[Array]:
        for chunk, part in labelled():
            yield confidence[part] * chunk + (1 - confidence[part]) * others[places[part]]

    second = Analysis(sample.with_features(mixed).moments, weight, whole.width)
    chances, at = np.empty(len(places)), 0
    for hard in mixed():
        part = slice(at, at := at + len(hard))
        chances[part] = _at(second(hard), places[part])
    return float(np.log(chances).mean() if logarithm else chances.mean())


def _at(chances: Array, places: Array) -> Array:  # (n, C), (n,) -> (n,)
    """The probability of each sample's own class."""
    return chances[np.arange(len(chances)), places]


def shrinkage(within: Array, start: Array) -> float:
    """exp(-5 lambda_max), by the authors' six products of power iteration from a start; at least 1e-10."""
    vector = within @ start
    for _ in range(6):
        length = np.linalg.norm(vector)
        if not length > 0:
            return 1.0
        vector = within @ (vector / length)
    return max(float(np.exp(-5 * np.linalg.norm(vector))), 1e-10)


class Analysis:
    """A linear discriminant analysis whose scatter is shrunk by `weight`, of features of `width` in all."""

    def __init__(self, found: Moments, weight: float, width: int) -> None:
        self.mean = found.mean
        means = found.means - found.mean
        within = found.within / found.size
        level = weight * within.trace() / width
        if not within.trace() > 0:
            self.coefficients = means.T
        else:
            noise = np.sqrt(len(within)) * np.finfo(float).eps * found.scatter.trace() / found.size
            self.coefficients = _solved((1 - weight) * within, level, noise, means.T)  # (D, C)
        self.offsets = np.log(found.counts / found.size) - (means.T * self.coefficients).sum(0) / 2

    def __call__(self, x: Array) -> Array:  # (n, D) -> (n, C)
        return softmax((x - self.mean) @ self.coefficients + self.offsets, 1)


def _solved(scatter: Array, level: float, noise: float, right: Array) -> Array:
    """(scatter + level I)^-1 right; directions that only rounding gives a scatter have none."""
    if level > noise:
        try:
            return cho_solve(cho_factor(scatter + level * np.eye(len(scatter))), right)
        except np.linalg.LinAlgError:
            pass
    values, vectors = np.linalg.eigh(scatter)
    values = np.where(values > noise, values, 0) + level
    return vectors @ ((vectors.T @ right) / values[:, None])
