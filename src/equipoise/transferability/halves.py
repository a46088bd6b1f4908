"""Half-samples of a target: how much a ranking owes to the samples that happened to be there."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from equipoise.transferability.sample import Sample

Array = np.ndarray


def half(sample: Sample, seed: int | Sequence[int]) -> Sample:
    """Half of the samples of each class, at least one, drawn without replacement; of all for numbers.

    What is drawn depends on the labels, their order and the seed alone, so that all models of a pool are
    judged on the same samples. The variance of a mean over halves is that of the mean over all, as in a
    bootstrap, but no sample occurs twice, which would fool whoever leaves one out.
    """
    draw = np.random.default_rng(seed)
    if sample.is_classes:
        places = sample.labels
        groups = [np.flatnonzero(places == c) for c in range(len(sample.classes))]
    else:
        groups = [np.arange(len(sample.targets()))]
    kept = np.zeros(sum(map(len, groups)), bool)
    for group in groups:
        kept[draw.choice(group, (len(group) + 1) // 2, replace=False)] = True

    return Sample(
        partial(sample.chunks_of, kept) if sample.has("features") else None,
        (sample.labels if sample.is_classes else sample.targets())[kept],
        sample.probabilities[kept] if sample.has("probabilities") else None,
        numbers=not sample.is_classes,
        name=sample.name,
    )
