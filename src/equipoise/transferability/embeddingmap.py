"""Embedding-space maps: fine-tuning as an affine map of the base model's embeddings."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.core.card import Card
from equipoise.transferability.logme import logme
from equipoise.transferability.moments import moments
from equipoise.transferability.sample import Sample

Array = np.ndarray
CARD = Card(
    name="EmbeddingMap",
    shape="score",
    needs=("features", "labels", "source"),
    summary="A score of base embeddings carried by an affine map that stands for a fine-tuned source model",
    formula="LogME(F A + b, y), A and b least squares from base to fine-tuned embeddings of source data",
    title="Less is More: Parameter-Efficient Selection of Intermediate Tasks for Transfer Learning",
    authors=("Schulte", "Hamborg", "Akbik"),
    venue="EMNLP",
    year=2024,
    arxiv="2410.15148",
    cost="a map of D^2 numbers for each source; for a target one pass of the base model and N D^2 a source",
    use="many intermediate tasks on one base model: none of the sources need run on the target",
    avoid="sources whose fine-tuning is far from affine",
    single="that of the score underneath",
    evidence="transferability",
)


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """An affine map from base embeddings to those of a model fine-tuned from it: `x @ weight + bias`.

    weight: (D, E). bias: (E,). These are all that need be kept of a source.

    Source: Schulte et al. 2024, section 3; they train it by AdamW for 10 epochs, with weight decay 0.01.

    >>> base = np.array([[0.0], [1.0], [2.0]])
    >>> EmbeddingMap.fit(base, 3 * base + 1)(base).round(3).ravel().tolist()
    [1.0, 4.0, 7.0]
    """

    weight: Array
    bias: Array

    @classmethod
    def fit(cls, base: Any, tuned: Any, *, ridge: float = 1e-6) -> "EmbeddingMap":
        """The least-squares map from base (N, D) to tuned (N, E) embeddings of the same samples.

        `ridge` times the mean variance of the base embeddings is added to their covariance, so that fewer
        samples than D give a map too. Both may be functions that give chunks, of the same sizes: memory does
        not grow with N. Raises ValueError for unlike numbers of samples and a ridge below 0.
        """
        if ridge < 0:
            raise ValueError(f"ridge must be 0 or more, got {ridge}")
        pair = [
            given if isinstance(given, Sample) else Sample(given, name=f"the {what} model")
            for what, given in (("base", base), ("tuned", tuned))
        ]

        def chunks() -> Iterator[tuple[Array, Array]]:
            for one, other in zip(pair[0].chunks(), pair[1].chunks(), strict=True):
                if len(one) != len(other):
                    raise ValueError(
                        f"{len(one)} samples of {pair[0].name} against {len(other)} of {pair[1].name}; give "
                        "the same samples in the same order"
                    )
                yield one, other

        found = moments(chunks(), False)
        mean = found.target_total / found.size
        cross = found.products.T - np.outer(found.total, mean)  # (D, E)
        scatter = found.scatter
        added = ridge * scatter.trace() / found.width
        values, vectors = np.linalg.eigh(scatter)
        values = np.maximum(values, 0) + added
        kept = values > values[-1] * found.width * np.finfo(float).eps
        weight = (vectors[:, kept] / values[kept]) @ (vectors[:, kept].T @ cross)
        return cls(weight, mean - found.mean @ weight)

    def __call__(self, features: Any) -> Array:  # (N, D) -> (N, E)
        """Base embeddings as the fine-tuned model would give them, nearly."""
        return np.asarray(features, float) @ self.weight + self.bias


def embeddingmap(
    features: Any = None,
    labels: Any = None,
    probabilities: Any = None,
    *,
    source: EmbeddingMap,
    score: Callable[..., float] = logme,
) -> float:
    """A score of base embeddings carried through a source's `EmbeddingMap`; higher is better.

    features: (N, D) of the base model, or a Sample; chunks stay chunks. labels: as `score` needs them.
    Raises ValueError where the map is of another width.

    Source: Schulte et al. 2024, section 3, with LogME underneath. The map in closed form is ours.

    >>> same = EmbeddingMap(np.eye(2), np.zeros(2))
    >>> x, y = np.eye(2)[[0, 0, 1, 1]], [0, 0, 1, 1]
    >>> bool(np.isclose(embeddingmap(x, y, source=same), logme(x, y)))
    True
    """
    sample = Sample.of(features, labels, probabilities)

    def carried() -> Iterator[Array]:
        for chunk in sample.chunks():
            if chunk.shape[1] != len(source.weight):
                raise ValueError(
                    f"{sample.name}: features have {chunk.shape[1]} columns and the map takes "
                    f"{len(source.weight)}; give embeddings of the base model that it was fitted to"
                )
            yield source(chunk)

    return score(sample.with_features(carried))
