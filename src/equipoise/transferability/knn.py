"""KNN: how often a sample's nearest neighbours have its label."""

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample

Array = np.ndarray
CARD = Card(
    name="KNN",
    shape="score",
    needs=("features", "labels"),
    summary="The leave-one-out accuracy of nearest neighbours, a plain baseline",
    formula="mean_i [the most frequent label of the k nearest x_j, j != i, is y_i]",
    title="Which Model to Transfer? Finding the Needle in the Growing Haystack",
    authors=("Renggli", "Pinto", "Rimanic", "Puigcerver", "Riquelme", "Zhang", "Lucic"),
    venue="CVPR",
    year=2022,
    arxiv="2010.06402",
    guarantees=("FEATURE_SCALE_INVARIANT",),
    cost="all pairs: N^2 D, with a block of rows in memory",
    use="beside every other score: what it does not beat is not worth its price",
    avoid="some ten thousand samples and more",
    single="an accuracy, 0 to 1; R^2 for numbers",
    status="main",
    evidence="transferability",
)
BLOCK = 512
DIGITS = 9
"""Distances that agree to so many digits of the largest count as equal."""


def knn(features: Any = None, labels: Any = None, probabilities: Any = None, *, neighbours: int = 1) -> float:
    """The leave-one-out accuracy of the vote of the nearest neighbours by Euclidean distance.

    Where more neighbours are as far as the last that counts than votes are left, these go to the label of one
    of them, and the success is the mean over all of them; labels with as many votes share it. So the order
    of the samples does not matter, and features that tell nothing are as good as chance. Labels that are
    numbers are predicted by the mean of the neighbours', those of equal distance sharing what is left, and
    the share of their variance that it explains is returned, R^2.

    features: (N, D), or a Sample. labels: (N,) classes, or (N,), (N, K) numbers. Raises ValueError where
    there are no more samples than neighbours.

    Source: Renggli et al. 2022, section 3, where it stands for a linear probe.

    >>> knn([[0.0], [0.1], [5.0], [5.1]], [0, 0, 1, 1])
    1.0
    """
    sample = Sample.of(features, labels, probabilities)
    x, targets = sample.features, sample.targets()
    if neighbours < 1 or neighbours >= len(x):
        raise ValueError(
            f"{sample.name}: neighbours is {neighbours}; with {len(x)} samples it must be 1 to {len(x) - 1}"
        )
    centred = x - x.mean(0)
    squares = (centred**2).sum(1)
    unit = squares.max() or 1.0
    said = np.empty((0 if sample.is_classes else len(x), targets.shape[1]))
    right = 0.0
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        distances = centred[rows] @ centred.T
        distances *= -2
        distances += squares
        distances += squares[rows, None]
        distances[np.arange(len(distances)), np.arange(start, start + len(distances))] = np.inf
        nearer, level = _nearest(distances, neighbours, unit)
        left, count = neighbours - nearer.sum(1), level.sum(1)
        votes, shares = nearer @ targets, level @ targets / count[:, None]
        if sample.is_classes:
            right += _success(votes, shares, left, count > left, sample.labels[rows])
        else:
            said[rows] = (votes + left[:, None] * shares) / neighbours
    return right / len(x) if sample.is_classes else explained(said, targets)


def _nearest(distances: Array, neighbours: int, unit: float) -> tuple[csr_array, csr_array]:
    """Who is nearer than the last neighbour that counts, and who as far as it, in `DIGITS` digits of `unit`.

    Squared distances (n, N) -> 1 where it is so, (n, N) each. Only those near the last are rounded.
    """
    place = neighbours - 1
    last = np.partition(distances, place, axis=1)[:, place] if place else distances.min(1)
    row, column = np.nonzero(distances <= last[:, None] + 2 * 10.0**-DIGITS * unit)
    found, limit = _rounded(distances[row, column], unit), _rounded(last, unit)[row]

    def ones(at: Array) -> csr_array:
        return csr_array((np.ones(at.sum()), (row[at], column[at])), distances.shape)

    return ones(found < limit), ones(found == limit)


def _rounded(distances: Array, unit: float) -> Array:
    return np.round(np.maximum(distances, 0) / unit, DIGITS)


def _success(votes: Array, shares: Array, left: Array, drawn: Array, places: Array) -> float:
    """How many get their label, from the votes (n, C) of nearer ones and the `left` votes (n,).

    These go to all that are level with the last neighbour, with the shares (n, C) of their labels, or, where
    `drawn` (n,), to the label of one of them.
    """
    total = float(hits(votes + left[:, None] * shares, places)[~drawn].sum())
    votes, shares, left, places = votes[drawn], shares[drawn], left[drawn], places[drawn]
    for c in np.flatnonzero((shares > 0).any(0)):
        one = votes.copy()
        one[:, c] += left
        total += float(shares[:, c] @ hits(one, places))
    return total


def hits(said: Array, places: Array) -> Array:  # (N, C), (N,) -> (N,)
    """Whether the greatest of each row is at the label: 1 over their number where several are greatest."""
    greatest = np.round(said, 12) == np.round(said.max(1, keepdims=True), 12)
    return greatest[np.arange(len(said)), places] / greatest.sum(1)


def explained(said: Array, targets: Array) -> float:  # (N, K), (N, K)
    """The share of the variance of numbers that predictions explain, mean over the columns that vary."""
    variances = targets.var(0)
    varies = variances > 0
    if not varies.any():
        return 0.0
    return float(1 - (((said - targets) ** 2).mean(0)[varies] / variances[varies]).mean())
