"""Task embeddings: a data set as a vector, and sources ranked by how near they lie to a target."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import rankdata

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample

Array = np.ndarray
CARD = Card(
    name="TaskEmbedding",
    shape="score",
    needs=("pool",),
    summary="How near a source task lies to the target as vectors: mean features or a diagonal Fisher matrix",
    formula="cos(t, s); for several components c the sum of 1 / (60 + rank_c(s)), ranks by cosine",
    title="Exploring and Predicting Transferability across NLP Tasks",
    authors=(
        "Vu",
        "Wang",
        "Munkhdalai",
        "Sordoni",
        "Trischler",
        "Mattarella-Micke",
        "Maji",
        "Iyyer",
    ),
    venue="EMNLP",
    year=2020,
    arxiv="2005.00770",
    cost="a forward pass (mean features) or a gradient for each sample (Fisher), once for each task",
    use="many intermediate tasks: each is embedded once, and a target is compared with all",
    avoid="a pool of one: a rank says nothing then",
    single="the cosine",
    status="main",
    evidence="transferability",
)
Embedding = Any
"""A vector, or vectors by the name of a component (a layer)."""
FUSION = 60


def taskembedding(target: Embedding, sources: Mapping[str, Embedding]) -> dict[str, float]:
    """How near each source's embedding lies to the target's, by name; higher is nearer.

    Where embeddings are vectors, their cosine. Where they are vectors by component, sources are ranked by
    cosine in each, and ranks are fused: sum_c 1 / (60 + rank). Those numbers depend on the pool. Sources
    that are equally near share the mean of their ranks. A vector of zeros has cosine 0 with all.

    Raises ValueError for components or sizes that differ from the target's, by name, and NaN.

    Source: Vu et al. 2020, section 4.1 and its appendix on rank fusion.

    >>> taskembedding([1.0, 0.0], {"near": [2.0, 0.0], "far": [0.0, 1.0]})
    {'near': 1.0, 'far': 0.0}
    """
    if not sources:
        raise ValueError("there are no sources")
    single = not isinstance(target, Mapping)
    parts = {name: _parts(f"the embedding of {name}", given) for name, given in sources.items()}
    wanted = _parts("the target's embedding", target)
    for name, found in parts.items():
        if {key: len(value) for key, value in found.items()} != {k: len(v) for k, v in wanted.items()}:
            said = ", ".join(f"{key or 'vector'} of {len(value)}" for key, value in found.items())
            asked = ", ".join(f"{key or 'vector'} of {len(value)}" for key, value in wanted.items())
            raise ValueError(f"{name} has {said}, and the target {asked}; embed both by one model")
    cosines = {
        key: np.array([_cosine(vector, found[key]) for found in parts.values()])
        for key, vector in wanted.items()
    }
    if single:
        values = cosines[""]
    else:
        ranks = [rankdata(-found) for found in cosines.values()]
        values = np.sum([1 / (FUSION + one) for one in ranks], axis=0)
    return dict(zip(parts, values.tolist(), strict=True))


def text_embedding(features: Any) -> Array:  # (N, D) -> (D,)
    """The mean of a data set's features: Vu et al.'s TextEmb, for a frozen encoder that knows no task.

    features: (N, D), a Sample, or a function that gives chunks.

    >>> text_embedding([[0.0, 1.0], [2.0, 3.0]]).tolist()
    [1.0, 2.0]
    """
    sample = features if isinstance(features, Sample) else Sample(features)
    total, size = 0.0, 0
    for chunk in sample.chunks():
        total, size = total + chunk.sum(0), size + len(chunk)
    return np.asarray(total / size)


def fisher_embedding(gradients: Any) -> Array:  # (N, P) -> (P,)
    """The diagonal of the empirical Fisher matrix, mean_i g_i^2: Vu et al.'s TaskEmb.

    gradients: (N, P), of the loss (minus the log likelihood) of each sample, an array or a function that
    gives chunks. Give one for each layer and put them into a mapping to compare layer by layer.

    >>> fisher_embedding([[1.0, 0.0], [3.0, 2.0]]).tolist()
    [5.0, 2.0]
    """
    total, size = 0.0, 0
    for chunk in Sample(gradients, name="the gradients").chunks():
        total, size = total + (chunk**2).sum(0), size + len(chunk)
    return np.asarray(total / size)


def _parts(what: str, given: Embedding) -> dict[str, Array]:
    named = given if isinstance(given, Mapping) else {"": given}
    found = {key: np.asarray(value, float).ravel() for key, value in named.items()}
    for key, value in found.items():
        if not value.size or not np.isfinite(value).all():
            raise ValueError(f"{what}{f', {key},' if key else ''} is empty, NaN or infinite")
    return found


def _cosine(one: Array, other: Array) -> float:
    length = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / length) if length > 0 else 0.0
