"""NCE: negative conditional entropy of the labels given the source model's predicted class."""

from typing import Any

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample
from equipoise.transferability.transport import conditional_entropy

CARD = Card(
    name="NCE",
    shape="score",
    needs=("labels", "probabilities"),
    summary="How well the source model's predicted class tells the label: minus the conditional entropy",
    formula="-H(Y | Z) = sum_{y, z} p(y, z) log(p(y, z) / p(z)), z the class of greatest probability",
    title="Transferability and Hardness of Supervised Classification Tasks",
    authors=("Tran", "Nguyen", "Hassner"),
    venue="ICCV",
    year=2019,
    arxiv="1908.08142",
    guarantees=("FEATURE_SCALE_INVARIANT",),
    cost="N Z",
    use="a classifier as the source, and few source classes for the number of samples",
    avoid="many source classes and few samples: entropies of small counts are too low",
    single="a number in nats, at most 0",
    status="main",
    evidence="transferability",
)


def nce(features: Any = None, labels: Any = None, probabilities: Any = None) -> float:
    """Minus the entropy of the labels given the source model's predicted class; at most 0, higher is better.

    labels: (N,) classes. probabilities: (N, Z). Of equal probabilities the first class counts.

    Source: Tran et al. 2019, section 3; z by the hard prediction, as in the code of LogME's authors.

    >>> nce(labels=[0, 0, 1], probabilities=[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    0.0
    """
    sample = Sample.of(features, labels, probabilities)
    return -conditional_entropy(sample.probabilities.argmax(1), sample.labels) + 0.0
