"""NCM: the probability that a nearest-class-mean classifier gives the labels."""

from typing import Any

import numpy as np
from scipy.special import softmax

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample

CARD = Card(
    name="NCM",
    shape="score",
    needs=("features", "labels"),
    summary="The mean probability of the labels under a nearest-class-mean classifier",
    formula="mean_i softmax_c(x_i' mu_c - |mu_c|^2 / 2 + log p_c) at y_i",
    title="ETran: Energy-Based Transferability Estimation",
    authors=("Gholami", "Akbari", "Wang", "Kamranian", "Zhang"),
    venue="ICCV",
    year=2023,
    arxiv="2308.02027",
    cost="two passes, N D C",
    use="a quick look that needs no factorisation",
    avoid="features of unlike scale from model to model: larger ones look surer",
    single="a mean probability, 0 to 1",
    status="main",
    evidence="transferability",
)


def ncm(features: Any = None, labels: Any = None, probabilities: Any = None) -> float:
    """The mean probability of the labels under a nearest-class-mean classifier; higher is better.

    p(c | x) is the soft-max of x' mu_c - |mu_c|^2 / 2 + log p_c. The code of ETran's authors calls this a
    linear discriminant analysis: it multiplies by the orthonormal eigenvectors of a matrix that is not
    symmetric, and they cancel. SFDA's first step is the analysis proper.

    features: (N, D), or a Sample. labels: (N,) classes.

    Source: Gholami et al. 2023, section 3.3, as their code computes it.

    >>> ncm([[-9.0], [-9.0], [9.0], [9.0]], [0, 0, 1, 1])
    1.0
    """
    sample = Sample.of(features, labels, probabilities)
    places, found = sample.labels, sample.moments
    offsets = np.log(found.counts / found.size) - (found.means**2).sum(1) / 2
    total, start = 0.0, 0
    for chunk in sample.chunks():
        said = softmax(chunk @ found.means.T + offsets, 1)
        total += said[np.arange(len(chunk)), places[start : start + len(chunk)]].sum()
        start += len(chunk)
    return float(total / start)
