"""PARC: whether samples whose features are alike have the same label."""

from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.stats import rankdata

from equipoise.core.card import Card
from equipoise.transferability.moments import RANGE, standardised
from equipoise.transferability.sample import Sample

Array = np.ndarray
CARD = Card(
    name="PARC",
    shape="score",
    needs=("features", "labels"),
    summary="The rank correlation between distances of features and distances of labels, over all pairs",
    formula="100 Spearman(1 - corr(f_i, f_j), 1 - corr(y_i, y_j)) over pairs i < j",
    title="Scalable Diverse Model Selection for Accessible Transfer Learning",
    authors=("Bolya", "Mittapalli", "Hoffman"),
    venue="NeurIPS",
    year=2021,
    arxiv="2111.06977",
    guarantees=("FEATURE_SCALE_INVARIANT", "RANDOM"),
    cost="all pairs of at most `limit` samples: N^2 d, N^2 log N, N^2 numbers of memory",
    use="some hundred samples",
    avoid="many classes: nearly all pairs differ then, and ties rule the ranks",
    single="a number from -100 to 100",
    status="main",
    evidence="transferability",
)


def parc(
    features: Any = None,
    labels: Any = None,
    probabilities: Any = None,
    *,
    components: int | None = 32,
    limit: int = 500,
    seed: int = 0,
) -> float:
    """100 times Spearman's correlation of feature distances with label distances over all pairs of samples.

    Features are reduced to `components` principal components (no more than their rank; None for none of it)
    and standardised; the distance of two samples is 1 less the correlation of their rows, and likewise for
    rows of 0 and 1 of the labels. Of more than `limit` samples so many are drawn, from `seed`: 500 as in the
    paper, where a probe set holds no more, and since time and memory grow with the square of their number.

    features: (N, D), or a Sample. labels: (N,) classes, or (N, K) numbers with K at least 2. Raises
    ValueError for one class or column, and for fewer components than 1.

    Source: Bolya et al. 2021, section 4. Principal components are exact here, randomised in the authors'
    code. The correlation of rows depends on the signs of the components, which nothing determines there;
    here each is skewed to the right. Equal distances share a rank; rounding tells them apart there.

    >>> import numpy as np
    >>> draw = np.random.default_rng(0)
    >>> x, y = draw.standard_normal((60, 4)), np.arange(60) % 3
    >>> parc(x + 9 * np.eye(4)[y], y) > parc(x, y)
    True
    """
    sample = Sample.of(features, labels, probabilities)
    targets = sample.targets()
    if targets.shape[1] < 2:
        raise ValueError(f"{sample.name}: PARC correlates rows of labels; it needs two classes or columns")
    if components is not None and components < 1:
        raise ValueError(f"{sample.name}: components is {components}; give 1 or more, or None")
    chosen, x = sample.drawn(limit, np.random.default_rng(seed))
    targets = targets[chosen]
    x = standardised(x) if components is None else _components(x, components)
    if not x.any():
        return 0.0
    upper = np.triu_indices(len(x), 1)
    ranks = [rankdata(_distances(rows)[upper]) for rows in (x, targets)]
    if any(np.ptp(one) == 0 for one in ranks):
        return 0.0
    return 100 * float(np.corrcoef(*ranks)[0, 1])


def _components(x: Array, components: int) -> Array:  # (N, D) -> (N, k)
    """Principal components of equal length, none of rounding, each skewed to the right."""
    found = _leading(np.where(np.ptp(x, axis=0) > 0, x - x.mean(0), 0), components)
    return found * np.where((found**3).sum(0) < 0, -1, 1)


def _leading(centred: Array, count: int) -> Array:  # (N, D) -> (N, k)
    """Left singular vectors, from the smaller Gram matrix where the least that counts has not lost digits."""
    wide = centred.shape[0] <= centred.shape[1]
    gram = centred @ centred.T if wide else centred.T @ centred
    size, count = len(gram), min(count, len(gram))
    values, vectors = eigh(gram, subset_by_index=(size - count, size - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[-1] > RANGE * values[0]:
        return vectors if wide else centred @ vectors / np.sqrt(values)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, singular > singular[:1] * 8 * max(centred.shape) * np.finfo(float).eps][:, :count]


def _distances(rows: Array) -> Array:  # (N, D) -> (N, N)
    """1 less the correlation of rows, equal ones without rounding; a constant row correlates with none."""
    centred = rows - rows.mean(1, keepdims=True)
    lengths = np.sqrt((centred**2).sum(1, keepdims=True))
    unit = centred / np.where(lengths > 0, lengths, 1)
    return np.round(1 - unit @ unit.T, 12)
