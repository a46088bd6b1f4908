"""N-LEEP: LEEP with the components of a Gaussian mixture in the place of source classes."""

from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from equipoise.core.card import Card
from equipoise.transferability.leep import leep
from equipoise.transferability.sample import Sample

CARD = Card(
    name="NLEEP",
    shape="score",
    needs=("features", "labels"),
    summary="LEEP with the clusters of the features in the place of source classes",
    formula="LEEP of the posteriors of a mixture of K Gaussians on the features' main components",
    title="Ranking Neural Checkpoints",
    authors=("Li", "Jia", "Sang", "Zhu", "Green", "Wang", "Gong"),
    venue="CVPR",
    year=2021,
    arxiv="2011.11200",
    guarantees=("FEATURE_SCALE_INVARIANT", "RANDOM"),
    cost="a mixture of K full covariances on d components, the slowest score here: its N K d^2",
    use="sources without a classifier, as self-supervised ones",
    avoid="few samples: K may not exceed what they can tell apart",
    single="a number in nats, at most 0",
    status="main",
    evidence="transferability",
)


def nleep(
    features: Any = None,
    labels: Any = None,
    probabilities: Any = None,
    *,
    ratio: float = 5,
    variance: float = 0.8,
    logarithm: bool = True,
    seed: int = 0,
) -> float:
    """LEEP with the posteriors of a Gaussian mixture as the source's predictions; higher is better.

    The features are reduced to the principal components that hold `variance` of theirs, and a mixture of
    K = `ratio` times the number of classes is fitted (no more than N / 2, where samples are few, and than
    there are distinct ones), with full covariances, from `seed`. `logarithm=False` gives the mean
    probability, as the code of SFDA's authors.

    features: (N, D), or a Sample. labels: (N,) classes. Unlike that code, the features are scaled to unit
    variance as a whole and put in order of their first component before the fit, so that neither their
    scale nor the order of the samples counts; the seed does, by a tenth or so at a hundred samples.

    Source: Li et al. 2021, section 3.2.

    >>> import numpy as np
    >>> draw = np.random.default_rng(0)
    >>> x, y = draw.standard_normal((60, 4)), np.arange(60) % 2
    >>> nleep(x + 9 * y[:, None], y) > nleep(x, y)
    True
    """
    sample = Sample.of(features, labels, probabilities)
    count = min(int(ratio * len(sample.classes)), len(sample.labels) // 2)
    if count < 1:
        raise ValueError(f"{sample.name}: {len(sample.labels)} samples are too few for a mixture")
    posteriors = np.ones((len(sample.labels), 1))
    if np.ptp(sample.features, axis=0).any():
        reduced = PCA(variance, svd_solver="full").fit_transform(sample.features)
        reduced = reduced / reduced.std()
        count = min(count, len(np.unique(reduced.round(9), axis=0)))
        mixture = GaussianMixture(count, random_state=seed).fit(reduced[np.argsort(reduced[:, 0])])
        posteriors = mixture.predict_proba(reduced)
    return leep(Sample(None, sample.labels, posteriors, name=sample.name), logarithm=logarithm)
