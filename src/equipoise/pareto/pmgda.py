"""PMGDA: towards a preference by a linear program, then along it by MGDA on what is left."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.lp import best_vertex
from equipoise.core.qp import min_norm
from equipoise.pareto.rays import Guide, RaySolver, scaled_gramian

CARD = Card(
    name="PMGDA",
    shape="front",
    summary="Corrects the losses towards a ray, then lowers all of them along it.",
    formula="correct: max min_i g_i'd with grad h'd >= sigma |grad h|; predict: min |sum w_i g_i + v grad h|",
    title="PMGDA: A Preference-based Multiple Gradient Descent Algorithm",
    authors=("Xiaoyuan Zhang", "Xi Lin", "Qingfu Zhang"),
    venue="arXiv",
    year=2024,
    arxiv="2402.09492",
    single="the model that gradient descent finds",
    cost="m gradients a step of each solution, and one small program",
    use="where losses are wanted in exact proportions",
    avoid="where rays miss the front, or directions are much noisier than their mean",
    status="experimental",
    evidence="fronts",
)


class PMGDA(RaySolver):
    """Corrects the losses towards a ray, then lowers all of them along it.

    h is the distance of f from the ray u. While h exceeds `tolerance` times |f|, the step corrects: it is
    the convex combination d of the unit gradients of f_1 ... f_m and h that lowers the worst of the f_i most
    among those that lower h at the rate `sigma` at least, grad h'd >= sigma |grad h|. Else it predicts: the
    min-norm point of the gradients after what they have along grad h is taken out.

    points, reference: see RaySolver.

    Use it where proportions matter. Not where rays miss the front.

    Source: Zhang et al. 2024, the correction (equations 18 and 20) as in LibMOON's `solve_pmgda`, with sigma
    0.8 and tolerance 0.01 of its configuration; the prediction in the dual form (equation 11), where LibMOON
    takes plain MGDA. Our reading: h is relative to |f|, and unit gradients carry no absolute epsilon.

    >>> gramian = torch.eye(2, dtype=torch.float64)
    >>> ray_weights(gramian, torch.ones(2), torch.tensor([0.6, 0.8]), tolerance=0.5).round(decimals=3)
    tensor([0.3600, 0.4800], dtype=torch.float64)
    """

    def __init__(
        self,
        *,
        points: int = 11,
        sigma: float = 0.8,
        tolerance: float = 0.01,
        reference: float | Mapping[str, float] = 0.0,
    ) -> None:
        super().__init__(points=points, reference=reference)
        if not 0 < sigma <= 1:
            raise ValueError(f"sigma is {sigma}; it is above 0 and at most 1, the steepest correction")
        if not tolerance > 0:
            raise ValueError(f"tolerance is {tolerance}; it must be positive")
        self.sigma = sigma
        self.tolerance = tolerance

    def guide(self, rays: Tensor, place: int) -> Guide:
        return partial(self._weights, rays[place] / rays[place].norm())

    def _weights(self, unit: Tensor, gramian: Tensor, losses: Tensor, share: float) -> Tensor:
        del share
        return ray_weights(gramian, losses, unit, sigma=self.sigma, tolerance=self.tolerance)


def ray_weights(
    gramian: Tensor, losses: Tensor, unit: Tensor, *, sigma: float = 0.8, tolerance: float = 0.01
) -> Tensor:  # (m, m), (m,), (m,) -> (m,)
    """The weights of PMGDA's step for the ray of a unit vector."""
    losses, unit, gramian = (part.to(torch.float64) for part in (losses, unit, gramian))
    beside = losses - (losses @ unit) * unit
    distance = beside.norm()
    slope = beside / distance if distance > 0 else torch.zeros_like(beside)  # of h by the losses
    steepness = (slope @ gramian @ slope).clamp(min=0).sqrt()
    floor = 1e-12 * gramian.diagonal().max().clamp(min=0).sqrt()
    if steepness <= floor:  # nothing at hand changes h
        return min_norm(gramian).value
    if distance > tolerance * losses.norm():
        return _corrected(gramian, slope, sigma)
    along = gramian @ slope / steepness.square()
    left = gramian - steepness.square() * torch.outer(along, along)
    weights = min_norm((left + left.T) / 2).value
    return weights - (weights @ along) * slope


def _corrected(gramian: Tensor, slope: Tensor, sigma: float) -> Tensor:  # (m, m), (m,) -> (m,)
    m = len(slope)
    scale = gramian.diagonal().sum().sqrt()
    rows = torch.cat([torch.eye(m, dtype=torch.float64), slope[None]])
    products = (rows @ scaled_gramian(gramian) @ rows.T).numpy()
    norms = np.sqrt(np.maximum(products.diagonal(), 0.0))
    inverse = np.where(norms > 0, 1 / np.where(norms > 0, norms, 1.0), 0.0)
    rates = products * inverse  # of f_1 ... f_m and h, by the shares of the unit gradients
    least_gain = np.append(rates[:m], -np.ones((m, 1)), axis=1)
    corrects = np.append(rates[m], 0.0)
    positive = np.eye(m + 1, m + 2)
    found = best_vertex(
        np.append(np.zeros(m + 1), 1.0),
        np.vstack([least_gain, corrects, positive]),
        np.concatenate([np.zeros(m), [sigma * norms[m]], np.zeros(m + 1)]),
        np.append(np.ones(m + 1), 0.0),
    )
    shares = np.append(np.zeros(m), 1.0) if found is None else found[: m + 1]
    shares = torch.from_numpy(shares * inverse) / scale
    return shares[:m] + shares[m] * slope
