"""Surrogate: quadratics of metrics in merging weights, with their error and where they are least certain."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from scipy.optimize import least_squares
from scipy.special import expit, logit
from torch import Tensor

from equipoise.core.quadratic import QuadraticFront, quadratic_features

Array = np.ndarray
Better = Literal["higher", "lower"]
Link = Literal["none", "sigmoid"]
REACH = 1e-6
"""The share of the box within which two places count as one."""
FIRST = 1e-2
"""How far from 0 and 1 metrics are taken to be where the search for a linked fit begins."""


@dataclass(frozen=True)
class Surrogate:
    """Quadratics fitted to metrics at n places, through a link.

    quadratic: the fit, as losses. values: (n, t), the metrics. better: which way each is.
    """

    metrics: tuple[str, ...]
    better: tuple[Better, ...]
    link: Link
    quadratic: QuadraticFront
    values: Tensor

    @cached_property
    def error(self) -> Tensor:  # -> (t,)
        """How far each metric is from the fit to all other places (root mean square), over its spread.

        0 is exact, 1 no better than the mean, infinite where places are too few to tell.
        """
        if self.link == "none":
            return self.quadratic.error
        features = quadratic_features(self.quadratic.unit(self.quadratic.inputs.numpy()))
        return torch.tensor([_left_out(features, column) for column in self.values.numpy().T])

    @property
    def signs(self) -> Tensor:  # -> (t,)
        """What makes losses of metrics: 1, or -1 where higher is better."""
        return torch.tensor([1.0 if way == "lower" else -1.0 for way in self.better], dtype=torch.float64)

    def predict(self, places: Tensor) -> Tensor:  # (..., m) -> (..., t)
        """The metrics that the fit gives."""
        found = self.quadratic.predict(places) * self.signs
        return found.sigmoid() if self.link == "sigmoid" else found

    def least_certain(self, points: int) -> Tensor | None:  # -> (m,)
        """The place of the predicted front where the variance of predictions is greatest.

        None where all places of that front have been evaluated.
        """
        front = self.quadratic.front(points).nondominated()
        places = np.stack([one["input"].numpy() for one in front.solutions])
        unit_of = self.quadratic.unit
        known, unit = unit_of(self.quadratic.inputs.numpy()), unit_of(places)
        apart = np.abs(unit[:, None] - known).max(-1).min(1)
        fresh = np.flatnonzero(apart > REACH)
        if not len(fresh):
            return None
        chosen = fresh[leverages(known, unit[fresh]).argmax()]
        place, low, high = places[chosen], self.quadratic.low, self.quadratic.high
        place = np.where(unit[chosen] < REACH - 1, low, np.where(unit[chosen] > 1 - REACH, high, place))
        return torch.from_numpy(place)


def fitted(
    metrics: Sequence[str],
    places: Tensor,
    values: Tensor,
    *,
    better: Sequence[Better],
    link: Link,
    low: float,
    high: float,
) -> Surrogate:
    """Fit quadratics to metrics `values` (n, t) at `places` (n, m) of the box.

    Raises ValueError for a metric outside [0, 1] under the link "sigmoid", naming it.
    """
    signs = np.array([1.0 if way == "lower" else -1.0 for way in better])
    losses = values.numpy() * signs
    if link == "sigmoid":
        check_shares(metrics, values)
        unit = 2 * (places.numpy() - low) / (high - low) - 1
        features = quadratic_features(unit)
        fits = [_linked(features, column) for column in values.numpy().T]
        losses = np.stack([features @ fit for fit in fits], 1) * signs
    names = [name if way == "lower" else f"-{name}" for name, way in zip(metrics, better, strict=True)]
    quadratic = QuadraticFront(names, places, torch.from_numpy(losses), low=low, high=high)
    return Surrogate(tuple(metrics), tuple(better), link, quadratic, values)


def check_shares(metrics: Sequence[str], values: Tensor) -> None:  # (n, t)
    """Raises ValueError naming each metric that the sigmoid does not reach."""
    outside = ((values < 0) | (values > 1)).any(0).tolist()
    if wrong := [name for name, bad in zip(metrics, outside, strict=True) if bad]:
        raise ValueError(f'{", ".join(wrong)} lies outside [0, 1]; give link="none", or rescale it')


def leverages(known: Array, places: Array) -> Array:  # (n, m), (p, m) -> (p,)
    """x'(X'X)^-1 x for the features x of places: the variance of a prediction over that of an observation.

    Infinite where the known places say nothing about one.

    >>> known = np.array([[-1.0], [0.0], [1.0]])
    >>> leverages(known, np.array([[0.0], [2.0]])).round(6).tolist()
    [1.0, 19.0]
    """
    features, asked = quadratic_features(known), quadratic_features(places)
    _, sizes, right = np.linalg.svd(features, full_matrices=False)
    large = sizes > sizes.max() * max(features.shape) * np.finfo(float).eps
    shares = asked @ right[large].T
    missed = (asked**2).sum(1) - (shares**2).sum(1) > 1e-9 * (asked**2).sum(1)
    return np.where(missed, np.inf, ((shares / sizes[large]) ** 2).sum(1))


def _linked(features: Array, values: Array) -> Array:  # (n, q), (n,) -> (q,)
    """The coefficients of least squared error of sigmoid(features @ coefficients)."""
    start = np.linalg.lstsq(features, logit(np.clip(values, FIRST, 1 - FIRST)), rcond=None)[0]

    def slopes(coefficients: Array) -> Array:
        found = expit(features @ coefficients)
        return features * (found * (1 - found))[:, None]

    def missed(coefficients: Array) -> Array:
        return expit(features @ coefficients) - values

    return least_squares(missed, start, jac=slopes).x  # pyright: ignore[reportArgumentType]


def _left_out(features: Array, values: Array) -> float:
    """The error at each place of the linked fit to all others, over the spread of the values."""
    if not values.std():
        return 0.0
    n, q = features.shape
    if n <= q:
        return float("inf")
    rest = ~np.eye(n, dtype=bool)
    missed = [
        expit(row @ _linked(features[keep], values[keep])) - value
        for row, value, keep in zip(features, values, rest, strict=True)
    ]
    return float(np.sqrt(np.mean(np.square(missed))) / values.std())
