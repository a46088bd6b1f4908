"""TMI: how much the features of a class still vary."""

from typing import Any

import numpy as np
from scipy.spatial import KDTree
from scipy.special import digamma

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample

Array = np.ndarray
CARD = Card(
    name="TMI",
    shape="score",
    needs=("features", "labels"),
    summary="The entropy of the features within the classes, told by nearest neighbours",
    formula="(1/C) sum_c p_c h(F | c), h = -psi(k) + psi(n_c) + D mean_i log(2 max(d_ik, 1))",
    title="Fast and Accurate Transferability Measurement by Evaluating Intra-class Feature Variance",
    authors=("Xu", "Kang"),
    venue="ICCV",
    year=2023,
    arxiv="2308.05986",
    cost="neighbours within each class: sum_c n_c^2 D",
    use="models of one width and scale",
    avoid="models of unlike width: it grows with D, and with the scale of the features",
    single="a number in nats",
    status="main",
    evidence="transferability",
)


def tmi(
    features: Any = None,
    labels: Any = None,
    probabilities: Any = None,
    *,
    neighbours: int = 3,
    scale_free: bool = False,
) -> float:
    """The entropy of the features given the class, h(F | Y), by nearest neighbours; higher is better.

    h_c = -psi(k) + psi(n_c) + D mean_i log(2 max(d_ik, 1)), d_ik the distance in the maximum norm from sample
    i to its k-th neighbour of its class, and the score is the mean over the classes of p_c h_c. The floor of
    1 makes it depend on the features' scale. `scale_free` divides the features by their root mean square
    before, leaves out the floor and divides by D, so that models of unlike width and scale compare; ours.

    features: (N, D), or a Sample. labels: (N,) classes. Classes of no more than k samples are left out of
    the mean. Raises ValueError where all are.

    Source: Xu & Kang 2023, section 4; k and the floor as in the authors' code.

    >>> import numpy as np
    >>> draw = np.random.default_rng(0)
    >>> x, y = 9 * draw.standard_normal((60, 4)), np.arange(60) % 2
    >>> tmi(3 * x, y) > tmi(x, y)
    True
    """
    if neighbours < 1:
        raise ValueError(f"neighbours must be 1 or more, got {neighbours}")
    sample = Sample.of(features, labels, probabilities)
    x, places = sample.features, sample.labels
    x = x - x.mean(0)
    if scale_free:
        size = np.sqrt((x**2).mean())
        x = x / size if size > 0 else x
    entropies, shares = [], np.bincount(places) / len(places)
    for c, share in enumerate(shares):
        rows = x[places == c]
        if len(rows) > neighbours:
            entropies.append(share * _entropy(rows, neighbours, 0.0 if scale_free else 1.0))
    if not entropies:
        raise ValueError(f"{sample.name}: no class has more than {neighbours} samples; take fewer neighbours")
    mean = float(np.mean(entropies))
    return mean / x.shape[1] if scale_free else mean


def _entropy(rows: Array, neighbours: int, floor: float) -> float:
    """The entropy of one class; samples that coincide lie the least number apart."""
    n, d = rows.shape
    distances = KDTree(rows).query(rows, neighbours + 1, p=np.inf)[0][:, -1]
    smallest = floor or np.finfo(float).tiny
    return float(-digamma(neighbours) + digamma(n) + d * np.log(2 * np.maximum(distances, smallest)).mean())
