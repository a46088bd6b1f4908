"""ETran: energy and separability of every model of a pool, each put on the scale of the pool."""

from collections.abc import Mapping

import numpy as np

from equipoise.core.card import Card
from equipoise.transferability.energy import energy
from equipoise.transferability.ncm import ncm
from equipoise.transferability.regression import regression
from equipoise.transferability.sample import Sample

CARD = Card(
    name="ETran",
    shape="score",
    needs=("features", "labels"),
    summary="Energy and separability of the features, each put on the scale of the pool of models",
    formula="0.15 minmax(energy) + 0.85 minmax(NCM), over the pool",
    title="ETran: Energy-Based Transferability Estimation",
    authors=("Gholami", "Akbari", "Wang", "Kamranian", "Zhang"),
    venue="ICCV",
    year=2023,
    arxiv="2308.02027",
    cost="two passes, N D C, for each model",
    use="a whole pool at once",
    avoid="to compare pools: a model more or less changes the scores of all",
    single="0: a pool of one has no scale",
    evidence="transferability",
)


def etran(pool: Mapping[str, Sample], *, weight: float = 0.15) -> dict[str, float]:
    """`weight` times the energy and the rest of it times the separability of every model of a pool.

    Both are put on [0, 1] by the least and the greatest of the pool; a part in which all models are alike
    counts 0. Separability is the nearest-class-mean probability (`ncm`), for labels that are numbers minus
    the mean squared error of a linear fit (`regression`).

    pool: the sample of each model by name. Gives a score for each, from 0 to 1, higher is better.

    Source: Gholami et al. 2023, equation 9; 0.15 and 0.85 as in their code for supervised models.

    >>> far, near = Sample([[0.0], [9.0]], [0, 1]), Sample([[0.0], [0.1]], [0, 1])
    >>> etran({"far": far, "near": near})["far"] > etran({"far": far, "near": near})["near"]
    True
    """
    if not pool:
        raise ValueError("the pool holds no models")
    energies = scaled({name: energy(sample) for name, sample in pool.items()})
    fits = scaled({name: (ncm if s.is_classes else regression)(s) for name, s in pool.items()})
    return {name: weight * energies[name] + (1 - weight) * fits[name] for name in pool}


def scaled(values: Mapping[str, float]) -> dict[str, float]:
    """Values on [0, 1] by the least and the greatest; 0 where all are alike."""
    low, high = min(values.values()), max(values.values())
    width = high - low if np.isfinite(high - low) else 0.0
    return {name: (value - low) / width if width > 0 else 0.0 for name, value in values.items()}
