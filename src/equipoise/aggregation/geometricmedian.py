"""GeometricMedian: the point with the least sum of distances to all directions."""

import numpy as np
import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.preference import preference_like
from equipoise.core.qp import Solution
from equipoise.core.rule import GramianRule
from equipoise.core.scaled import Array, as_array

CARD = Card(
    name="GeometricMedian",
    shape="gramian",
    summary="Takes the point whose distances to the directions have the least sum.",
    formula="d = argmin_v sum_i p_i |g_i - v|; w_i = p_i / max(nu, |g_i - d|), scaled to sum 1",
    title="Robust Aggregation for Federated Learning",
    authors=("Krishna Pillutla", "Sham M. Kakade", "Zaid Harchaoui"),
    venue="IEEE Transactions on Signal Processing",
    year=2022,
    arxiv="1912.13445",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "SIMPLEX", "NON_NEGATIVE", "PREFERENCE"),
    single="the direction itself",
    cost="the Gramian, its eigenvectors, and a few Newton steps in m dimensions, O(m^3)",
    use="many directions of one kind, of which less than half the weight may be anything",
    avoid="objectives that differ by nature: those in the middle rule, however long the others are",
    status="main",
)

STEPS = 200
SETTLED = 1e-10
LEVEL = 1e-13
"""Values of the objective that differ by less are the same."""
SAME = 1e-7
"""Points that are closer, relative to the farthest, are the same: a Gramian holds squares of distances."""


class GeometricMedian(GramianRule):
    """Takes the point nearest to all directions in sum, which less than half of them cannot carry away.

    d = argmin_v sum_i p_i h(|g_i - v|), with p = `preference` and h(r) = r, but r^2 / (2 nu) + nu / 2 below
    nu; then d = sum_i w_i g_i with w_i = p_i / max(nu, |g_i - d|), scaled to sum 1. The smoothing nu keeps
    weights finite where d is one of the directions.

    Use it for directions that estimate one thing: each pulls with the same force however long it is. Avoid
    it for objectives that differ by nature.

    smoothing: nu over the median distance of the directions from the most central one of them, above 0;
        1e-6. (The paper's nu is an absolute number.)
    gramian: (m, m). preference: (m,) on the simplex or None. Returns (m,). The paper's Weiszfeld steps
        alternate with Newton's until the optimality condition holds. Where d is a direction, the limit
        taken is the one that nu gives: d is off by less than nu and nearly all weight lies on it. Where
        directions lie on a line and an interval is optimal, the middle of its ends is taken (of two
        directions of one weight the mean).

    Raises ValueError for a smoothing that is not above 0. Source: Pillutla et al. 2022 (the smoothed
    Weiszfeld algorithm); Weiszfeld 1937.

    >>> points = torch.tensor([[0.0], [1.0], [100.0]], dtype=torch.float64)
    >>> (GeometricMedian()(points @ points.T) @ points).round(decimals=3).tolist()
    [1.0]
    """

    def __init__(self, *, smoothing: float = 1e-6) -> None:
        super().__init__()
        if not smoothing > 0:
            raise ValueError(f"smoothing is {smoothing}; it is a length above 0")
        self.smoothing = smoothing

    def extra_repr(self) -> str:
        return f"smoothing={self.smoothing}"

    def forward(self, gramian: Tensor, *, preference: Tensor | None = None) -> Tensor:  # (m, m), (m,) -> (m,)
        chosen = preference_like(preference, gramian.double().diagonal())
        return least_distances(gramian, chosen, self.smoothing).value


def least_distances(
    gramian: Tensor, preference: Tensor, smoothing: float
) -> Solution:  # (m, m), (m,) -> (m,)
    """Weights of the smoothed geometric median.

    `residual` is the length of the gradient of the objective, a weighted sum of vectors of at most unit
    length, which is zero at the median and there alone. NaN where the Gramian is not finite.
    """
    inner, shares = as_array(gramian), as_array(preference)
    if not np.isfinite(inner).all():
        return Solution(torch.full(shares.shape, torch.nan, dtype=torch.float64), float("nan"))
    points = _points(inner, shares)
    centre = _start(points, shares)
    spread = _spread(np.linalg.norm(points - centre, axis=1), shares)
    if not spread > 0:
        return Solution(torch.from_numpy(shares.copy()), 0.0)
    points, centre = (points - centre) / spread, np.zeros_like(centre)  # near the centre no digits are lost
    slope, newton, weiszfeld = _steps(centre, points, shares, smoothing)
    for _ in range(STEPS):
        if np.linalg.norm(slope) <= SETTLED:
            break
        halved = [centre - newton * 0.5**k for k in range(8)]
        tried = np.stack([centre, centre - weiszfeld, *halved])
        heights = _height(tried, points, shares, smoothing)
        level = np.flatnonzero(heights <= heights.min() * (1 + LEVEL))
        found = [_steps(tried[k], points, shares, smoothing) for k in level]
        best = min(range(len(level)), key=lambda k: float(np.linalg.norm(found[k][0])))
        if level[best] == 0:
            break
        centre, (slope, newton, weiszfeld) = tried[level[best]], found[best]
    weights = shares / np.maximum(smoothing, np.linalg.norm(points - centre, axis=1))
    return Solution(torch.from_numpy(weights / weights.sum()), float(np.linalg.norm(slope)))


def _points(gramian: Array, shares: Array) -> Array:  # (m, m), (m,) -> (m, r)
    """The directions less their mean, in coordinates of their own; what rounding alone makes is left out."""
    inner = gramian / max(float(gramian.diagonal().max()), np.finfo(float).tiny)
    inner = inner - shares @ inner
    inner = inner - (inner @ shares)[:, None]
    values, vectors = np.linalg.eigh((inner + inner.T) / 2)
    kept = values > len(values) * 1e-15 * max(1.0, values[-1])
    return vectors[:, kept] * np.sqrt(values[kept])


def _start(points: Array, shares: Array) -> Array:  # (m, r), (m,) -> (r,)
    """The point with the least sum of distances to the others; the mean of those that are level."""
    heights = np.array([shares @ np.linalg.norm(points - point, axis=1) for point in points])
    return points[heights <= heights.min() * (1 + LEVEL)].mean(0)


def _spread(distances: Array, shares: Array) -> float:  # (m,), (m,)
    """The median distance, which no minority can stretch; where half are at one point, what is the same."""
    order = distances.argsort()
    half = int(np.searchsorted(shares[order].cumsum(), shares.sum() / 2))
    median = float(distances[order][min(half, len(order) - 1)])
    return max(median, SAME * float(distances.max()))


def _height(at: Array, points: Array, shares: Array, smoothing: float) -> Array:  # (n, r), (m, r) -> (n,)
    distances = np.linalg.norm(at[:, None] - points, axis=2)
    near = distances**2 / (2 * smoothing) + smoothing / 2
    return np.where(distances < smoothing, near, distances) @ shares


def _steps(at: Array, points: Array, shares: Array, smoothing: float) -> tuple[Array, Array, Array]:
    """The gradient, and the steps down that Newton and Weiszfeld take."""
    apart = at - points
    distances = np.linalg.norm(apart, axis=1)
    pulls = shares / np.maximum(smoothing, distances)
    slope = pulls @ apart
    outside = np.where(distances >= smoothing, pulls / np.maximum(distances, smoothing) ** 2, 0.0)
    curvature = pulls.sum() * np.eye(len(at)) - (apart.T * outside) @ apart
    curvature += 1e-13 * pulls.sum() * np.eye(len(at))
    step = np.linalg.solve(curvature, slope)
    longest = 2 * distances.max()
    return slope, step * min(1.0, longest / max(float(np.linalg.norm(step)), longest)), slope / pulls.sum()
