"""The conflict-averse direction: near the mean, the most for the direction that gains the least."""

from math import sqrt

import numpy as np
import torch
from torch import Tensor

from equipoise.core.qp import Solution, dual_cone, min_norm
from equipoise.core.scaled import Array, as_array

ROUNDING = 1e-12  # squares below this share of the largest are rounding
SLACK = 1e-12
GAP = 1e-8  # relative distance of the bounds from both sides


def averse(gramian: Tensor, c: float) -> Solution:  # (m, m) -> (m,)
    """Weights v of the direction d = J'v in a ball around the mean whose least gain is the largest.

    max_d min_i g_i'd subject to |d - g0| <= c |g0|, with g0 = J'u the mean, u uniform, and G = `gramian`
    (Liu et al. 2021, equation 3). Any w of the simplex bounds the gain by w'Gu + c |g0| |J'w|. The least
    bound is found exactly: for a scalar t it is the min-norm problem of the rows g_i + t g0, and
    |J'w| = c t |g0| has one root. Then v = u + c |g0| w / |J'w|.

    `residual` is how far the least gain stays below that bound, or d lies outside of the ball, in
    multiples of |g0| for rows no longer than one. Where g0 is zero v is uniform. Where the bound ends at
    J'w = 0 every d of the ball that hurts nobody is optimal: the one nearest to g0 is taken.

    >>> averse(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]), 0.5).value
    tensor([0.5000, 0.7500], dtype=torch.float64)
    """
    array = as_array(gramian)
    uniform = np.full(len(array), 1.0 / len(array))
    largest = array.diagonal().max()
    if c == 0 or largest <= 0:
        return Solution(torch.from_numpy(uniform), 0.0)
    array = 0.5 * (array + array.T) / largest
    pulls = array @ uniform  # g_i'g0
    square = float(uniform @ pulls)
    if square <= ROUNDING / len(array) ** 2:
        return Solution(torch.from_numpy(uniform), 0.0)
    found, bound = _best(array, uniform, pulls, square, c * sqrt(square))
    short = bound - float((array @ found).min())
    outside = _length(array, found - uniform) - c * sqrt(square)
    return Solution(torch.from_numpy(found), max(short, outside, 0.0) / sqrt(square))


def _best(
    gramian: Array, uniform: Array, pulls: Array, square: float, radius: float
) -> tuple[Array, float]:  # (m, m), (m,), (m,) -> (m,)
    """The weights, and an upper bound of the least gain."""
    weights, least = _combination(gramian)
    stationary = least**2 <= ROUNDING * float((weights**2 * gramian.diagonal()).max())
    nearest, share = _harmless(gramian, uniform, radius) if stationary else (uniform, 0.0)
    if share >= 1.0 - GAP:
        return nearest, float(pulls @ weights) + radius * least
    weights, length = _worst(gramian, pulls, square, radius, 0.0 if stationary else least)
    found = uniform + radius / length * weights if length > 0 else uniform
    bound, gain = float(pulls @ weights) + radius * length, (gramian @ found).min()
    if bound - gain > GAP * sqrt(square):  # rounding has the upper hand
        nearest, _ = _harmless(gramian, uniform, radius)
        found = nearest if (gramian @ nearest).min() > gain else found
    return found, bound


def _harmless(gramian: Array, uniform: Array, radius: float) -> tuple[Array, float]:
    """The update nearest to g0 that hurts nobody, and the share of the way there that the ball holds."""
    nearest = dual_cone(torch.from_numpy(gramian), torch.from_numpy(uniform)[None]).value[0].numpy()
    length = _length(gramian, nearest - uniform)
    share = 1.0 if length <= radius else radius / length
    return uniform + share * (nearest - uniform), share


def _combination(gramian: Array, shifted: Array | None = None) -> tuple[Array, float]:
    """The min-norm weights (of `shifted` rows) and the norm of the rows combined by them."""
    weights = min_norm(torch.from_numpy(gramian if shifted is None else shifted)).value.numpy()
    return weights, _length(gramian, weights)


def _length(gramian: Array, weights: Array) -> float:
    return sqrt(max(float(weights @ gramian @ weights), 0.0))


def _worst(gramian: Array, pulls: Array, square: float, radius: float, low: float) -> tuple[Array, float]:
    """argmin over the simplex of pulls'w + radius |J'w|, and |J'w| there, which is at least `low`.

    w(s) = argmin |J'w + s/radius g0|; the ratio of |J'w(s)| to s falls as s grows and is one at the
    optimum. Between changes of support w(s) is linear in s, so a quadratic equation gives the root.
    """
    high = sqrt(float(gramian.diagonal().max()))
    guess = max(sqrt(square), low)
    weights, length = np.zeros(len(gramian)), 0.0
    for step in range(40):
        cross = guess / radius * pulls
        shifted = gramian + cross + cross[:, None] + (guess / radius) ** 2 * square
        weights, length = _combination(gramian, shifted)
        if abs(length - guess) <= 1e-13 * guess or high - low <= 1e-14 * high:
            break
        low, high = (guess, high) if length > guess else (low, guess)
        root = _root(gramian, pulls / radius, np.flatnonzero(weights > 0), low, high)
        stuck = root is not None and abs(root - guess) <= SLACK * guess
        if stuck and abs(length - guess) <= 1e-7 * guess:
            break
        if stuck or (step > 8 and step % 2):
            root = None
        guess = root or (sqrt(low * high) if low else 1e-2 * high)
    return weights, max(length, low)


def _root(gramian: Array, slopes: Array, support: np.ndarray, low: float, high: float) -> float | None:
    """Where |J'w(s)| = s if the support stays as it is; None where that is not from low to high."""
    n = len(support)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = gramian[np.ix_(support, support)]
    system[n, n] = 0.0
    right = np.zeros((n + 1, 2))
    right[n, 0], right[:n, 1] = 1.0, -slopes[support]
    fixed, moving = np.linalg.lstsq(system, right, rcond=None)[0][:n].T
    block = system[:n, :n]
    # |fixed + s moving|^2 = s^2
    a, b, c = moving @ block @ moving - 1.0, fixed @ block @ moving, fixed @ block @ fixed
    inner = max(b * b - a * c, 0.0)
    large = -(b + sqrt(inner)) if b >= 0 else -(b - sqrt(inner))
    roots = [large / a if a else 0.0, c / large if large else 0.0]
    inside = [root for root in roots if root > 0 and low * (1 - SLACK) <= root <= high * (1 + SLACK)]
    return inside[0] if inside else None
