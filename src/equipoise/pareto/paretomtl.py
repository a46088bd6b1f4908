"""ParetoMTL: one solution in each of n cones that divide the losses between them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.qp import min_norm
from equipoise.pareto.rays import Guide, RaySolver

CARD = Card(
    name="ParetoMTL",
    shape="front",
    summary="Finds one Pareto stationary point in each of n cones of losses.",
    formula="min-norm point of the gradients of f_i and of the active constraints (u_j - u_k)'f <= 0",
    title="Pareto Multi-Task Learning",
    authors=("Xi Lin", "Hui-Ling Zhen", "Zhenhua Li", "Qingfu Zhang", "Sam Kwong"),
    venue="NeurIPS",
    year=2019,
    arxiv="1912.12854",
    single="the model that gradient descent finds",
    cost="m gradients a step of each solution, and one quadratic program of size m + n",
    use="for a few solutions spread over all trade-offs, on concave fronts too",
    avoid="where a certain trade-off is wanted: a cone is all that is asked for",
    status="main",
    evidence="fronts",
)


class ParetoMTL(RaySolver):
    """Finds one Pareto stationary point in each of n cones of losses, each around its ray.

    The cone of u_k (unit rays) is where (u_j - u_k)'f <= 0 for all j. A walker first goes into its cone,
    along the min-norm point of the gradients of the constraints it violates, for at most the share `initial`
    of its rounds; then along the min-norm point of the m gradients and of those of the constraints that it
    violates. All these are weighted sums of the m gradients; the weights of the second phase are scaled to
    sum |w| = m. Exact where the authors stop Frank-Wolfe early.

    points, reference: see RaySolver. With one point there is no cone, and this is MGDA.

    Use it for a spread of solutions, on concave fronts too. Not for a certain trade-off (EPO, PMGDA).

    Source: Lin et al. 2019, as in the authors' `train.py` for MultiMNIST and their synthetic example.

    >>> u = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> cone_weights(torch.eye(2), torch.tensor([0.2, 0.1]), u, 0, feasible=False)
    tensor([ 1., -1.], dtype=torch.float64)
    """

    def __init__(
        self,
        *,
        points: int = 11,
        initial: float = 0.2,
        reference: float | Mapping[str, float] = 0.0,
    ) -> None:
        super().__init__(points=points, reference=reference)
        if not 0 <= initial <= 1:
            raise ValueError(f"initial is {initial}; it is a share of the rounds, from 0 to 1")
        self.initial = initial

    def guide(self, rays: Tensor, place: int) -> Guide:
        units = rays / rays.norm(dim=1, keepdim=True)
        inside = False

        def weigh(gramian: Tensor, losses: Tensor, share: float) -> Tensor:
            nonlocal inside
            inside = inside or share >= self.initial or not len(violated(losses, units, place))
            weights = cone_weights(gramian, losses, units, place, feasible=inside)
            size = weights.abs().sum()
            return weights * (len(weights) / size) if inside and size > 0 else weights

        return weigh


def cone_weights(
    gramian: Tensor, losses: Tensor, units: Tensor, place: int, *, feasible: bool
) -> Tensor:  # (m, m), (m,), (n, m) -> (m,)
    """The weights of a step in the cone of one ray, or of one towards it where it is not yet `feasible`."""
    rows = violated(losses, units, place)
    if feasible:
        rows = torch.cat([torch.eye(len(losses), dtype=torch.float64), rows])
    products = rows @ gramian.to(torch.float64) @ rows.T
    return min_norm((products + products.T) / 2).value @ rows


def violated(losses: Tensor, units: Tensor, place: int) -> Tensor:  # (m,), (n, m) -> (k, m)
    """The constraints u_j - u_k that losses violate."""
    apart = units.to(torch.float64) - units[place].to(torch.float64)
    return apart[apart @ losses.to(torch.float64) > 0]
