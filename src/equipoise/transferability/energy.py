"""Energy: how much the features excite the source model."""

from typing import Any

import numpy as np
from scipy.special import logsumexp

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample

CARD = Card(
    name="Energy",
    shape="score",
    needs=("features",),
    summary="The mean log-sum-exp of the features, how well the model knows such inputs; needs no labels",
    formula="mean_i log sum_d exp(x_id), over the share of samples with the lowest values",
    title="ETran: Energy-Based Transferability Estimation",
    authors=("Gholami", "Akbari", "Wang", "Kamranian", "Zhang"),
    venue="ICCV",
    year=2023,
    arxiv="2308.02027",
    cost="one pass, N D",
    use="as a part of ETran; where there are no labels",
    avoid="models of unlike width or feature scale: it grows with both",
    single="a number",
    status="main",
    evidence="transferability",
)


def energy(
    features: Any = None, labels: Any = None, probabilities: Any = None, *, share: float = 0.005
) -> float:
    """The mean of log sum_d exp(x_d) over the `share` of samples where it is lowest; higher is better.

    At least one sample counts, so that fewer than 200 give a number too. The paper has logits in the place
    of features where the source is a classifier; give them as features then.

    features: (N, D), or a Sample. Raises ValueError for a share that is not above 0 and at most 1.

    Source: Gholami et al. 2023, equation 5; the share as in their code.

    >>> round(energy([[0.0, 0.0], [1.0, 1.0]], share=1), 4)
    1.1931
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    sample = Sample.of(features, labels, probabilities)
    energies = np.sort(np.concatenate([logsumexp(chunk, axis=1) for chunk in sample.chunks()]))
    return float(energies[: max(1, int(share * len(energies)))].mean())
