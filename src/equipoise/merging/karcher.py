"""Karcher: the mean of several models on the sphere."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.gramian import cosines
from equipoise.merging.block import Block, Part
from equipoise.merging.blockgramian import combined, gramian_of
from equipoise.merging.mergerule import MergeRule, PerModel, check_least, normalized, values_of

CARD = Card(
    name="Karcher",
    shape="merge",
    summary="The point of the sphere with the least squared angles to the models, at their mean length",
    formula="(sum_i w_i |theta_i|) argmin_{|u| = 1} sum_i w_i angle(u, theta_i)^2",
    title="Riemannian center of mass and mollifier smoothing",
    authors=("Karcher",),
    venue="Communications on Pure and Applied Mathematics",
    year=1977,
    doi="10.1002/cpa.3160300502",
    cost="two passes; memory of a part",
    use="several models that point apart, in place of Slerp step by step, which depends on the order",
    avoid="models near each other, for which it is their average",
    single="the model itself",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class Karcher(MergeRule):
    """The mean of the models' directions on the sphere, at their mean length, each tensor as one vector.

    u minimises sum_i w_i a_i^2 with a_i the angle between u and theta_i; the result is u sum_i w_i |theta_i|.
    It starts at the mean direction (or the first model's, where they cancel) and moves along the geodesic of
    the mean tangent sum_i w_i (a_i / sin a_i) (u_i - <u_i, u> u), at most `max_iter` times, until that is
    shorter than `tol`. All happens on the Gramian. `weight`: w, divided by its sum. A zero tensor has a
    length and no direction; a model opposite to u has no tangent and does not pull.

    Raises ValueError for weights that sum to zero, and negative `max_iter` or `tol`.

    Source: Karcher, Comm. Pure Appl. Math. 30, 1977; the iteration and defaults of mergekit 0.1.5.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> models = [{"w": torch.tensor([2.0, 0.0])}, {"w": torch.tensor([0.0, 4.0])}]
    >>> merge(models, method=Karcher())["w"]
    tensor([2.1213, 2.1213])
    """

    weight: PerModel = 1.0
    max_iter: int = 10
    tol: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("max_iter", "tol"):
            check_least("Karcher", name, getattr(self, name), 0)

    def measure(self, block: Block, survey: Any) -> Any:  # -> (m,)
        if len(block) == 1:
            return torch.ones(1, dtype=torch.float64)
        weights = values_of(self.weight, block.names)
        weights = normalized(weights, block.names)
        gramian = gramian_of(block, relative=False)
        norms = gramian.diagonal().sqrt()
        some = norms > 0
        if not weights[some].sum():
            return torch.zeros_like(weights)
        shares = torch.where(some, weights, 0.0) / weights[some].sum()
        mean = self._mean(cosines(gramian), shares, torch.finfo(block.dtype).eps)
        return (weights @ norms) * torch.where(some, mean / norms, 0.0)

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        return combined(part, measured, relative=False)

    def _mean(self, cosine: Tensor, shares: Tensor, resolution: float) -> Tensor:  # (m, m), (m,) -> (m,)
        """The mean as a combination of the unit vectors whose cosines are given."""
        mean = shares
        if mean @ cosine @ mean <= len(shares) * resolution * shares.abs().sum() ** 2:
            mean = torch.zeros_like(shares)
            mean[shares.nonzero()[0]] = 1.0
        mean = mean / (mean @ cosine @ mean).sqrt()
        for _ in range(self.max_iter):
            dots = (cosine @ mean).clamp(-1, 1)
            angles = dots.arccos()
            pulls = torch.where((angles > self.tol) & (dots > 4 * resolution - 1), angles / angles.sin(), 0.0)
            tangent = shares * pulls
            tangent = tangent - (tangent @ dots) * mean
            length = (tangent @ cosine @ tangent).clamp(min=0).sqrt()
            if length < self.tol:
                break
            mean = length.cos() * mean + length.sin() * tangent / length
            mean = mean / (mean @ cosine @ mean).sqrt()
        return mean
