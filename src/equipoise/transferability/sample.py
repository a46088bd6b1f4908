"""Sample: what one source model makes of a target set, read in chunks, with what all scores share."""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from equipoise.transferability.inputs import (
    array,
    check_features,
    checked_labels,
    checked_probabilities,
    precision,
    raise_unless_finite,
)
from equipoise.transferability.moments import Moments, moments

Array = np.ndarray
Chunks = Callable[[], Iterable[Any]]
"""Gives the features chunk after chunk, from the start each time it is called."""
CHUNK = 4096
"""Samples of a chunk, where the features are one array."""


class Sample:
    """N samples of a target under one source model: features, labels and the model's own predictions.

    features: (N, D), or a function that gives an iterator over chunks (n, D) each time it is called; scores
    that need moments only never hold more than a chunk. labels: (N,) or (N, 1) classes, as integers, booleans
    or text; or (N,) or (N, K) floating-point numbers, for regression or for several labels at once (0 and 1,
    which may be integers). One column of whole floating-point numbers that repeat may be either and is
    refused: cast classes to integers, and say `numbers=True` for numbers, of any type.
    probabilities: (N, Z) of the source model's classes, rows that sum to 1. Any may be absent. Arrays, memory
    maps and torch tensors on any device are taken; nothing is written into them. `name` is the model's.

    Raises ValueError, naming model and sample, for sizes that do not agree, NaN or infinity, what are no
    numbers, and rows of probabilities that are negative or do not sum to 1 by the precision of their type.

    >>> sample = Sample([[0.0], [1.0], [3.0]], ["a", "a", "b"])
    >>> sample.classes.tolist(), sample.moments.means.tolist()
    (['a', 'b'], [[0.5], [3.0]])
    """

    def __init__(
        self,
        features: Any = None,
        labels: Any = None,
        probabilities: Any = None,
        *,
        numbers: bool = False,
        name: str = "the model",
    ) -> None:
        self.name, self._numbers = name, numbers
        self._features = features if callable(features) else array(features, f"{name}: features")
        self._labels = checked_labels(array(labels, f"{name}: labels"), name, numbers)
        said = array(probabilities, f"{name}: probabilities")
        self._probabilities = said
        if said is not None:
            self._probabilities = checked_probabilities(name, said, precision(probabilities, said))
        given = {"features": self._features, "labels": self._labels, "probabilities": self._probabilities}
        self._sizes = {what: len(values) for what, values in given.items() if isinstance(values, np.ndarray)}
        if not min(self._sizes.values(), default=int(callable(features))):
            raise ValueError(f"{name}: no samples are given")
        if len(set(self._sizes.values())) > 1:
            said = ", ".join(f"{what} of {n}" for what, n in self._sizes.items())
            raise ValueError(f"{name}: {said} samples; they must belong to the same ones")
        if isinstance(self._features, np.ndarray):
            check_features(name, self._features)

    @classmethod
    def of(cls, features: Any = None, labels: Any = None, probabilities: Any = None) -> "Sample":
        """What every score makes of its arguments: `features` may be a whole sample already."""
        if not isinstance(features, Sample):
            return cls(features, labels, probabilities)
        if labels is not None or probabilities is not None:
            raise ValueError("a Sample brings its labels and probabilities; give no others beside it")
        return features

    def with_features(self, features: Any) -> "Sample":
        """The same samples, labels and predictions with other features: an array or a function of chunks."""
        return Sample(features, self._labels, self._probabilities, numbers=self._numbers, name=self.name)

    def has(self, what: str) -> bool:
        """Whether there are "features", "labels" or "probabilities"; a sample has nothing else."""
        return getattr(self, f"_{what}", None) is not None

    @cached_property
    def is_classes(self) -> bool:
        """Whether each sample has one class; else labels are numbers, one or several."""
        if self._labels is None or self._numbers:
            return False
        return self._labels.ndim == 1 and self._labels.dtype.kind != "f"

    @cached_property
    def size(self) -> int:
        """N; where nothing but chunks is given, they are counted."""
        return next(iter(self._sizes.values())) if self._sizes else sum(map(len, self.chunks()))

    @property
    def classes(self) -> Array:  # -> (C,)
        """The classes that occur, sorted. Raises ValueError where labels are absent or are numbers."""
        return self._encoded[0]

    @property
    def labels(self) -> Array:  # -> (N,) of 0 .. C - 1
        """The place of each label among `classes`; a class that does not occur leaves no gap."""
        return self._encoded[1]

    @property
    def probabilities(self) -> Array:  # -> (N, Z)
        """Raises ValueError where they are absent."""
        return self._needed("probabilities").astype(float, copy=False)

    @cached_property
    def features(self) -> Array:  # -> (N, D)
        """All features at once, for scores that look at single samples or at pairs."""
        return np.concatenate([*self.chunks()])

    def chunks(self) -> Iterator[Array]:  # of (n, D)
        """The features in float64, in order. Raises ValueError where they are absent or not finite."""
        source = self._needed("features")
        if isinstance(source, np.ndarray):
            pieces: Iterable[Any] = (source[at : at + CHUNK] for at in range(0, len(source), CHUNK))
        else:
            pieces = source()
        width, start = 0, 0
        for piece in pieces:
            found = array(piece, f"{self.name}: a chunk of features")
            if found is None or not len(found):
                continue
            check_features(self.name, found, "a chunk of features has", "(n, D)")
            width = width or found.shape[1]
            if found.shape[1] != width:
                raise ValueError(
                    f"{self.name}: the chunk of features from sample {start} on has {found.shape[1]} columns "
                    f"and those before it {width}"
                )
            raise_unless_finite(found, f"{self.name}: the features of sample", start)
            start += len(found)
            if start > self._known_size:
                raise ValueError(self._count(f"{start} samples or more"))
            yield np.asarray(found, float)
        if not start:
            raise ValueError(f"{self.name}: no samples are given; a function of chunks starts anew each time")
        if self._known_size not in (start, np.inf):
            raise ValueError(self._count(f"{start} samples"))

    def chunks_of(self, chosen: Array) -> Iterator[Array]:  # (N,) of booleans -> of (n, D)
        """The features of some samples, in order: of an array no others are read, else a pass over all."""
        source = self._needed("features")
        if isinstance(source, np.ndarray):
            places = np.flatnonzero(chosen)
            for at in range(0, len(places), CHUNK):
                block = places[at : at + CHUNK]
                found = np.asarray(source[block], float)
                raise_unless_finite(found, f"{self.name}: the features of sample", block)
                yield found
            return
        start = 0
        for chunk in self.chunks():
            yield chunk[chosen[start : start + len(chunk)]]
            start += len(chunk)

    def drawn(self, limit: int, draw: np.random.Generator) -> tuple[Array, Array]:  # -> (n,), (n, D)
        """Places and features of all samples, or of `limit` of them in order; others are not kept."""
        if self.size <= limit:
            return np.arange(self.size), self.features
        chosen = np.zeros(self.size, bool)
        chosen[draw.choice(self.size, limit, replace=False)] = True
        return np.flatnonzero(chosen), np.concatenate([*self.chunks_of(chosen)])

    def targets(self, start: int = 0, stop: int | None = None) -> Array:  # -> (n, K) float64
        """Labels as numbers: one column of 0 and 1 for each class, or the numbers as they are given."""
        if self.is_classes:
            return (self.labels[start:stop, None] == np.arange(len(self.classes))).astype(float)
        labels = self._needed("labels")[start:stop]
        return labels.reshape(len(labels), -1).astype(float)

    @cached_property
    def moments(self) -> Moments:
        """Gram matrix, class sums and class second moments, from one pass over the features."""

        def pairs() -> Iterator[tuple[Array, Array]]:
            start = 0
            for chunk in self.chunks():
                yield chunk, self.targets(start, start + len(chunk))
                start += len(chunk)

        return moments(pairs(), self.is_classes)

    @cached_property
    def _encoded(self) -> tuple[Array, Array]:
        labels = self._needed("labels")
        if not self.is_classes:
            raise ValueError(
                f"{self.name}: labels are {labels.dtype} of shape {labels.shape}; this score needs one class "
                "for each sample, as an integer or text"
            )
        return np.unique(labels, return_inverse=True)

    @property
    def _known_size(self) -> float:
        return next(iter(self._sizes.values()), np.inf)

    def _count(self, found: str) -> str:
        return f"{self.name}: features of {found}, " + ", ".join(
            f"{what} of {n}" for what, n in self._sizes.items()
        )

    def _needed(self, what: str) -> Any:
        found = getattr(self, f"_{what}")
        if found is None:
            raise ValueError(f"{self.name}: this score needs {what}, and none are given")
        return found
