"""OT-NCE: negative conditional entropy of target labels given the source labels they are carried to."""

from typing import Any

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample
from equipoise.transferability.transport import conditional_entropy, matched

CARD = Card(
    name="OTNCE",
    shape="score",
    needs=("features", "labels", "source"),
    summary="How well the label of the source sample that is nearest by transport tells the target's label",
    formula="-H(Y_t | Y_s) under the optimal coupling of source and target features",
    title="OTCE: A Transferability Metric for Cross-Domain Cross-Task Representations",
    authors=("Tan", "Li", "Huang"),
    venue="CVPR",
    year=2021,
    arxiv="2103.13843",
    guarantees=("FEATURE_SCALE_INVARIANT", "RANDOM"),
    cost="an assignment of at most `limit` samples: limit^3, limit^2 numbers of memory",
    use="source data at hand, and source and target classes that differ",
    avoid="many target classes and few samples: entropies of small counts are too low",
    single="a number in nats, at most 0",
    status="main",
    evidence="osborn",
)


def otnce(
    features: Any = None,
    labels: Any = None,
    probabilities: Any = None,
    *,
    source: Sample,
    limit: int = 1000,
    seed: int = 0,
) -> float:
    """Minus the entropy of target labels given source labels, as optimal transport joins them; at most 0.

    The optimal coupling of the features of both data sets under one model, with squared distances and equal
    weights, is a joint distribution of their labels. The transport is exact, by assignment; where the sizes
    of the sets are not equal, the larger one is cut to a multiple of the smaller, drawn from `seed`, and no
    more than `limit` samples of each count, as the authors advise.

    features, labels: (N, D), (N,) classes of the target, or a Sample. `source`: the source's features and
    labels under the same model. Scale invariant where both are scaled. The order of the samples matters only
    where some are drawn.

    Source: Tan, Li & Huang 2021, equations 4 to 7; the entropy alone, as in their appendix.

    >>> source = Sample([[0.0], [1.0]], [5, 6])
    >>> otnce([[0.1], [0.9]], ["a", "b"], source=source)
    0.0
    """
    sample = Sample.of(features, labels, probabilities)
    left, right, _ = matched(source, sample, limit=limit, seed=seed)
    return -conditional_entropy(source.labels[left], sample.labels[right]) + 0.0
