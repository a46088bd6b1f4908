"""GBC: how much Gaussians fitted to the classes overlap, by Bhattacharyya coefficients."""

from typing import Any

import numpy as np

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample

CARD = Card(
    name="GBC",
    shape="score",
    needs=("features", "labels"),
    summary="Minus the overlap of Gaussians fitted to the classes, over all pairs of classes",
    formula="-sum_{c != c'} exp(-D_B(c, c')), D_B the Bhattacharyya distance of Gaussians",
    title="Transferability Estimation using Bhattacharyya Class Separability",
    authors=("Pándy", "Agostinelli", "Uijlings", "Ferrari", "Mensink"),
    venue="CVPR",
    year=2022,
    arxiv="2111.12780",
    cost="one pass, N D, and C^2 D",
    use="few samples: only means and variances are estimated",
    avoid="classes that are not one cloud each",
    single="a number at most 0",
    status="main",
    evidence="transferability",
)
FLOOR = 1e-4


def gbc(
    features: Any = None,
    labels: Any = None,
    probabilities: Any = None,
    *,
    spherical: bool = False,
    components: int | None = 64,
    legacy: bool = False,
) -> float:
    """Minus the sum over ordered pairs of classes of exp(-D_B), the overlap of their Gaussians; at most 0.

    D_B = sum_d (mu_d - mu'_d)^2 / (8 v_d) + sum_d log(v_d / sqrt(s_d s'_d)) / 2 with s, s' the variances of
    two classes and v their mean. Variances are diagonal, or one for each class where `spherical` (the mean
    over features); none counts as less than 1e-4, the floor of the authors' code. `legacy` counts the
    logarithm of spherical Gaussians once instead of D times, as that code does.

    `components`: principal components of the features that are kept, None for all of them. 64 is what the
    authors' published settings say for both choices, of sources and of targets, for classes of images
    (there with spherical Gaussians) and of pixels (with diagonal ones). In `evidence/transferability.py`
    all features gave a weighted tau of .709, 64 components .386.

    features: (N, D), or a Sample. labels: (N,) classes, two at least.

    Source: Pándy et al. 2022, equations 2 to 4.

    >>> gbc([[0.0], [0.2], [9.0], [9.2]], [0, 0, 1, 1]) > gbc([[0.0], [0.2], [0.1], [0.3]], [0, 0, 1, 1])
    True
    """
    sample = Sample.of(features, labels, probabilities)
    if len(sample.classes) < 2:
        raise ValueError(f"{sample.name}: one class alone overlaps with none; labels need two classes")
    found = sample.moments
    means, variances = found.means, found.variances
    if components is not None:  # narrow models too, or models would be compared on unlike axes
        sample = Sample(_projected(sample, components), sample.labels, name=sample.name)
        means, variances = sample.moments.means, sample.moments.variances
    if spherical:
        variances = variances.mean(1, keepdims=True)
    variances = np.maximum(variances, FLOOR)
    repeated = means.shape[1] if spherical and not legacy else 1
    total = 0.0
    for c in range(len(means)):
        mean = (variances + variances[c]) / 2
        distance = ((means - means[c]) ** 2 / mean).sum(1) / 8
        logarithm = np.log(mean / np.sqrt(variances * variances[c])).sum(1) / 2
        overlap = np.exp(-distance - repeated * logarithm)
        total += overlap.sum() - overlap[c]
    return -float(total)


def _projected(sample: Sample, components: int) -> np.ndarray:  # -> (N, components)
    """The features on the directions of greatest variance; one column of zeros where nothing varies."""
    axes = sample.moments.axes[1][:, :components]
    if not axes.size:
        return np.zeros((sample.size, 1))
    return np.concatenate([(chunk - sample.moments.mean) @ axes for chunk in sample.chunks()])
