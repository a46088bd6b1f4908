"""EPO: exact Pareto optimal search, along the ray that a preference asks for."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.directions import inverted, inwards
from equipoise.core.lp import best_vertex
from equipoise.pareto.rays import Guide, RaySolver, scaled_gramian

CARD = Card(
    name="EPO",
    shape="front",
    summary="Goes to the Pareto optimal points whose losses stand in given proportions.",
    formula="max over the simplex of w'Ga with a the adjustments, until r_i f_i are equal; then of w'G1",
    title="Multi-Task Learning with User Preferences: Gradient Descent with Controlled Ascent in "
    "Pareto Optimization",
    authors=("Debabrata Mahapatra", "Vaibhav Rajan"),
    venue="ICML, Proceedings of Machine Learning Research 119",
    year=2020,
    single="the model that gradient descent finds",
    cost="m gradients a step of each solution, and one linear program of size m",
    use="where losses are wanted in exact proportions, or fronts are concave",
    avoid="with losses that may be negative, or rays that miss the front",
    status="main",
    evidence="fronts",
)
ROUNDING = 1e-9


class EPO(RaySolver):
    """Goes to the Pareto optimal points on rays of losses: r_1 f_1 = ... = r_m f_m.

    While the losses are out of proportion (the divergence mu of r f / sum(r f) from uniform exceeds
    `tolerance`) the weights are those of the simplex that restore it fastest: they maximise w'Ga with G the
    Gramian and a_i = r_i (log(m r_i f_i / sum(r f)) - mu), where no objective that lags may get worse. Then
    they maximise the descent of all, w'G1, without leaving the ray. A step is m times the weighted gradient.

    points, reference: see RaySolver; rays are drawn a thousandth inwards, so that none asks for a loss of
    zero. Losses above the reference must not be negative (ValueError).

    Use it where proportions matter or the front is concave. Not where rays miss the front: the nearest end
    of it is found then, more than once.

    Source: Mahapatra and Rajan 2020, the linear programs as in the authors' `EPO_LP` and the step as in their
    training on MultiMNIST. Where a program has no solution, w is r / sum(r), as there.

    >>> gramian = torch.tensor([[1.0, -0.5], [-0.5, 1.0]], dtype=torch.float64)
    >>> balancing_weights(gramian, torch.tensor([4.0, 1.0]), torch.tensor([0.5, 0.5])).tolist()
    [1.0, 0.0]
    """

    def __init__(
        self,
        *,
        points: int = 11,
        tolerance: float = 1e-4,
        reference: float | Mapping[str, float] = 0.0,
    ) -> None:
        super().__init__(points=points, reference=reference)
        if not tolerance > 0:
            raise ValueError(f"tolerance is {tolerance}; it must be positive")
        self.tolerance = tolerance

    def guide(self, rays: Tensor, place: int) -> Guide:
        return partial(self._weights, inverted(inwards(rays[place])))

    def checked(self, losses: Tensor, names: tuple[str, ...]) -> Tensor:
        if bad := [n for n, loss in zip(names, losses.tolist(), strict=True) if loss < 0]:
            raise ValueError(f"EPO needs losses >= 0; {', '.join(bad)} is below, so give `reference` for it")
        return super().checked(losses, names)

    def _weights(self, preference: Tensor, gramian: Tensor, losses: Tensor, share: float) -> Tensor:
        del share
        weights = balancing_weights(gramian, losses, preference, tolerance=self.tolerance)
        return len(preference) * weights


def balancing_weights(
    gramian: Tensor, losses: Tensor, preference: Tensor, *, tolerance: float = 1e-4
) -> Tensor:  # (m, m), (m,), (m,) -> (m,)
    """The weights, on the simplex, of EPO's step for the preference r at some losses."""
    r = preference.to(torch.float64).numpy()
    products = scaled_gramian(gramian.to(torch.float64)).numpy()
    m = len(r)
    weighed = r * losses.to(torch.float64).numpy()
    shares = np.maximum(weighed / max(weighed.sum(), 1e-300), np.finfo(float).tiny)
    shares = np.full(m, 1 / m) if not weighed.any() else shares
    mu = float((shares * np.log(shares * m)).sum())
    adjustments = r * (np.log(shares * m) - mu)
    pull = products @ adjustments
    if mu > tolerance:
        least = np.zeros(m)
        if (pull > 0).any():
            least = np.where(pull > 0, -np.inf, pull)
            least[weighed == weighed.max()] = 0.0
        found = best_vertex(pull, np.vstack([np.eye(m), products]), np.append(np.zeros(m), least), np.ones(m))
    else:
        if np.linalg.norm(pull) < ROUNDING:  # in proportion to the last digit: no direction leaves the ray
            pull = np.zeros(m)
        rows = np.vstack([np.eye(m), products, pull])
        least = np.append(np.zeros(2 * m), min(pull.max(), 0.0))
        found = best_vertex(products.sum(axis=0), rows, least, np.ones(m))
    return torch.from_numpy(r / r.sum() if found is None else found)
