"""TransRate: how much longer a code for the features is than one for each class alone."""

from typing import Any

import numpy as np

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample

Array = np.ndarray
CARD = Card(
    name="TransRate",
    shape="score",
    needs=("features", "labels"),
    summary="The mutual information of features and labels, as a difference of coding rates",
    formula="R(F) - mean_c R(F_c), R(F) = log det(I + F'F / (n eps)) / 2 of centred features",
    title="Frustratingly Easy Transferability Estimation",
    authors=("Huang", "Huang", "Rong", "Yang", "Wei"),
    venue="ICML",
    year=2022,
    arxiv="2106.09362",
    cost="a factorisation for each class: C min(n_c, D)^2 max(n_c, D)",
    use="quick, without hyper-parameters to tune",
    avoid="models of unlike width or feature scale: it grows with both",
    single="a number in nats",
    status="main",
    evidence="transferability",
)
NUMBERS = 2**24
"""What may be held of the classes that share a pass."""


def transrate(
    features: Any = None,
    labels: Any = None,
    probabilities: Any = None,
    *,
    epsilon: float = 1e-4,
    by_size: bool = False,
) -> float:
    """The coding rate of all features less that of each class alone; higher is better.

    R(F) = log det(I + F'F / (n epsilon)) / 2 with the features centred by the mean of all. Classes count
    alike, as in the authors' published code; `by_size` weighs them by their share of the samples instead.

    features: (N, D), or a Sample; classes that do not fit into memory together take a pass each.
    labels: (N,) classes. Raises ValueError for an epsilon that is not positive.

    Source: Huang et al. 2022, equations 3 to 5.

    >>> transrate([[0.0], [0.0], [1.0], [1.1]], [0, 0, 1, 1]) > 0
    True
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, got {epsilon}")
    sample = Sample.of(features, labels, probabilities)
    places = sample.labels
    found = sample.moments
    whole = rate_of_rows(found.centred, epsilon) if found.gram is None else None
    if whole is None:
        whole = rate(found.scatter, found.size, epsilon)
    rates = _class_rates(sample, places, found.mean, epsilon)
    weights = found.counts / found.size if by_size else np.full(len(rates), 1 / len(rates))
    return float(whole - weights @ np.array(rates))


def rate(gram: Array, size: float, epsilon: float) -> float:
    """log det(I + gram / (size epsilon)) / 2, by Cholesky."""
    factor = np.linalg.cholesky(np.eye(len(gram)) + gram / (size * epsilon))
    return float(np.log(factor.diagonal()).sum())


def rate_of_rows(rows: Array, epsilon: float) -> float:  # (n, D)
    """The same from the rows, on the shorter side."""
    n, d = rows.shape
    return rate(rows @ rows.T if n < d else rows.T @ rows, n, epsilon)


def _class_rates(sample: Sample, places: Array, mean: Array, epsilon: float) -> list[float]:
    """The rate of each class: its rows while they are fewer than features, else their Gram matrix.

    As many classes as fit into `NUMBERS` share a pass.
    """
    counts = np.bincount(places)
    taken = np.cumsum(np.minimum(counts, len(mean)) * len(mean)) // NUMBERS
    rates = []
    for group in np.unique(taken):
        classes = np.flatnonzero(taken == group).tolist()
        chosen = np.isin(places, classes)
        held: dict[int, list[Array]] = {c: [] for c in classes}
        grams = {c: np.zeros((len(mean), len(mean))) for c in classes if counts[c] >= len(mean)}
        labels, start = places[chosen], 0
        for chunk in sample.chunks_of(chosen):
            rows, label = chunk - mean, labels[start : start + len(chunk)]
            start += len(chunk)
            for c in np.unique(label).tolist():
                if c in grams:
                    grams[c] += rows[label == c].T @ rows[label == c]
                else:
                    held[c].append(rows[label == c])
        for c in classes:
            rates.append(
                rate(grams[c], counts[c], epsilon)
                if c in grams
                else rate_of_rows(np.concatenate(held[c]), epsilon)
            )
    return rates
