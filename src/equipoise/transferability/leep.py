"""LEEP: the log likelihood of the labels under the expected empirical predictor."""

from typing import Any

import numpy as np

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample

CARD = Card(
    name="LEEP",
    shape="score",
    needs=("labels", "probabilities"),
    summary="The log likelihood of the labels when each source class votes with the labels that it goes with",
    formula="mean_i log sum_z p(y_i | z) P_iz, with p(y, z) = mean_i [y_i = y] P_iz",
    title="LEEP: A New Measure to Evaluate Transferability of Learned Representations",
    authors=("Nguyen", "Hassner", "Seeger", "Archambeau"),
    venue="ICML",
    year=2020,
    arxiv="2002.12462",
    guarantees=("FEATURE_SCALE_INVARIANT",),
    cost="N Z and Z C",
    use="a classifier as the source; no features are needed",
    avoid="self-supervised sources, which predict no classes (N-LEEP)",
    single="a number in nats, at most 0",
    status="main",
    evidence="transferability",
)


def leep(
    features: Any = None, labels: Any = None, probabilities: Any = None, *, logarithm: bool = True
) -> float:
    """The mean log probability that the expected empirical predictor gives the labels; higher is better.

    p(y, z) = mean_i [y_i = y] P_iz joins labels with source classes, and the predictor says
    sum_z p(y | z) P_iz. A source class that nobody predicts counts for nothing. `logarithm=False` gives the
    mean probability instead, which some repositories call by the same name.

    labels: (N,) classes. probabilities: (N, Z).

    Source: Nguyen et al. 2020, equation 2.

    >>> round(leep(labels=[0, 1], probabilities=[[0.5, 0.5], [0.5, 0.5]]), 4)
    -0.6931
    """
    likelihood = expected(Sample.of(features, labels, probabilities))
    return float(np.log(likelihood).mean() if logarithm else likelihood.mean())


def expected(sample: Sample) -> np.ndarray:  # -> (N,)
    """What the expected empirical predictor gives the label of each sample."""
    said, places = sample.probabilities, sample.labels
    joint = np.zeros((len(sample.classes), said.shape[1]))
    np.add.at(joint, places, said)
    marginal = joint.sum(0)
    conditional = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    return (conditional[places] * said).sum(1)
