"""PED: any score after classes that overlap have pushed each other apart."""

from collections.abc import Callable
from typing import Any

import numpy as np

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample
from equipoise.transferability.sfda import sfda

Array = np.ndarray
CARD = Card(
    name="PED",
    shape="score",
    needs=("features", "labels"),
    summary="Another score, after classes that overlap were pushed apart as training would push them",
    formula="x += sum_j (mu_i - mu_j) / d_ij min(k dt^2 F_ij / 2, F_ij), F_ij = max(n (R_i + R_j) - d_ij, 0)",
    title="Exploring Model Transferability through the Lens of Potential Energy",
    authors=("Li", "Hu", "Ge", "Shan", "Duan"),
    venue="ICCV",
    year=2023,
    arxiv="2308.15074",
    cost="one pass more than the score, and C^2 D for each of at most 6 steps",
    use="on top of SFDA, N-LEEP or LogME, where classes overlap",
    avoid="without reference features of the same models: those of the target themselves say less",
    single="that of the score underneath",
    status="main",
    evidence="transferability",
)
Score = Callable[..., float]


def ped(
    features: Any = None,
    labels: Any = None,
    probabilities: Any = None,
    *,
    score: Score = sfda,
    reference: Any = None,
    reach: float = 0.6,
    step: float = 0.1,
    strength: float = 1.0,
    steps: int = 6,
    stop: float = 0.5,
) -> float:
    """Another score of the features after classes that overlap have pushed each other away.

    In units of the standard deviations of `reference` features (M, D) of the same model, by default of those
    given, class i has the radius R_i = sqrt(sum_d var_d), and classes i and j push each other apart with the
    force F = max(reach (R_i + R_j) - |mu_i - mu_j|, 0), by min(strength step^2 F / 2, F) in a step. At most
    `steps` are made, until one moves classes by no more than `stop` times the first. Classes move as a
    whole, so that only means are computed with. Those whose means coincide do not push each other.

    features: (N, D), or a Sample. labels: (N,) classes. `score` is any score of features and labels.

    Source: Li et al. 2023, section 3, and appendix B for the reference; the limits as in the authors' code,
    where `reach` is 0.3 or 0.6.

    >>> x = np.random.default_rng(0).standard_normal((40, 3))
    >>> ped(x, np.arange(40) % 2, strength=50) > sfda(x, np.arange(40) % 2)
    True
    """
    sample = Sample.of(features, labels, probabilities)
    places, found = sample.labels, sample.moments
    scale = _scale(sample, reference)
    means, variances = found.means / scale, found.variances / scale**2
    shift = pushed(means, np.sqrt(variances.sum(1)), reach, step, strength, steps, stop) * scale
    if not shift.any():
        return score(sample)

    def moved() -> Any:
        start = 0
        for chunk in sample.chunks():
            yield chunk + shift[places[start : start + len(chunk)]]
            start += len(chunk)

    return score(Sample(moved, sample.classes[places], name=sample.name))


def pushed(
    means: Array, radii: Array, reach: float, step: float, strength: float, steps: int, stop: float
) -> Array:  # (C, D), (C,) -> (C, D)
    """How far each class is moved in all steps that count."""
    total, first = np.zeros_like(means), 0.0
    for at in range(steps):
        centres = means + total
        apart = centres[:, None] - centres[None]
        distance = np.sqrt((apart**2).sum(2))
        force = np.maximum(reach * (radii[:, None] + radii) - distance, 0)
        length = np.minimum(0.5 * step**2 * strength * force, force)
        share = np.divide(length, distance, out=np.zeros_like(distance), where=distance > 0)
        shift = (apart * share[:, :, None]).sum(1)
        change = float(np.abs(shift).sum())
        first = change if at == 0 else first
        if not change > stop * first:
            break
        total += shift
    return total


def _scale(sample: Sample, reference: Any) -> Array:  # -> (D,)
    """Standard deviations of the reference, none below 0.001."""
    if reference is None:
        deviations = sample.moments.deviations / np.sqrt(sample.moments.size)
    else:
        given = np.asarray(reference, float)
        if given.ndim != 2 or given.shape[1] != sample.moments.width or not np.isfinite(given).all():
            raise ValueError(
                f"{sample.name}: reference features have shape {given.shape}; give finite ones (M, "
                f"{sample.moments.width}) of the same model"
            )
        deviations = given.std(0)
    return np.maximum(deviations, 1e-3)
