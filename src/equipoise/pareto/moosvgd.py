"""MOOSVGD: solutions that descend together and push each other apart in their losses."""

from math import log

import torch
from torch import Tensor

from equipoise.core.bundle import Bundle
from equipoise.core.card import Card
from equipoise.core.qp import min_norm
from equipoise.pareto.landscape import Landscape
from equipoise.pareto.solver import Heard, Traced, rounds_of
from equipoise.pareto.swarm import Swarm, refuse_infinite

CARD = Card(
    name="MOOSVGD",
    shape="front",
    summary="Moves a swarm along its members' min-norm directions while their losses repel each other.",
    formula="x_i <- x_i - rate / n sum_j [k_ij g_j + grad_(x_i) k_ij], k_ij = exp(-|f_i - f_j|^2 / h)",
    title="Profiling Pareto Front With Multi-Objective Stein Variational Gradient Descent",
    authors=("Xingchao Liu", "Xin Tong", "Qiang Liu"),
    venue="NeurIPS",
    year=2021,
    single="n models that gradient descent finds",
    cost="m gradients a step of each solution; the gradients of all are held at once",
    use="for a spread of solutions without preferences, on small models",
    avoid="with large models: a round holds n m gradients",
    status="experimental",
    evidence="fronts",
)


class MOOSVGD(Swarm):
    """Moves a swarm along its members' min-norm directions while their losses repel each other.

    Solution i moves against the mean over j of k_ij g_j + `repulsion` times the gradient of k_ij by x_i, with
    g_j the min-norm point of the m gradients at j, and k_ij = exp(-|f_i - f_j|^2 / h) of their losses. h is
    `bandwidth`, or by default the median of the squared distances over log n. The second term lowers the
    kernel: near solutions part. The first holds none on the front: it vanishes at every Pareto-stationary
    point, and on DTLZ2 solutions end at corners of the box that others dominate. A gap of zero in the record
    does not say that a solution is on the front.

    Use it for a spread of solutions without preferences. Not with large models, since a round holds the m
    gradients of all n solutions, nor where stationary points lie off the front.

    Source: Liu, Tong and Liu 2021; the sum as in the authors' `moosvgd.py`.
    Our reading: the median rule as the paper states it, where that code has exp(-|f_i - f_j|^2 h / 5e-6), and
    without its scaling of each objective's gradients across the swarm.

    >>> MOOSVGD(points=5).points
    5
    """

    def __init__(self, *, points: int = 11, bandwidth: float | None = None, repulsion: float = 1.0) -> None:
        super().__init__(points=points)
        if bandwidth is not None and not bandwidth > 0:
            raise ValueError(f"bandwidth is {bandwidth}; it must be positive, or None for the median rule")
        self.bandwidth = bandwidth
        self.repulsion = repulsion

    def solve(
        self, landscape: Landscape, *, budget: int, learning_rate: float, seed: int, heard: Heard
    ) -> Traced:
        cost = self.points * len(landscape.names)
        rounds = rounds_of(budget, cost, f"MOOSVGD with {self.points} solutions")
        walkers = self.walkers(landscape, learning_rate, seed)
        for step in range(rounds):
            with landscape.one_batch():
                seen = [walker.directions() for walker in walkers]
            losses = torch.stack([values for values, _ in seen])
            refuse_infinite(losses, landscape.names)
            kernel, apart = repelled(losses, self.bandwidth)
            self._move(walkers, [bundle for _, bundle in seen], kernel, self.repulsion * apart)
            heard((step + 1) / rounds)
        return Traced([walker.tensors() for walker in walkers], None, sum(w.count for w in walkers))

    def _move(self, walkers: list, bundles: list[Bundle], kernel: Tensor, apart: Tensor) -> None:
        """Each walker by the mean over j of k_ij g_j, and by the slopes of its own kernel."""
        descents = [bundle.combine(min_norm(bundle.gramian()).value) for bundle in bundles]
        n = len(walkers)
        for i, walker in enumerate(walkers):
            direction = bundles[i].combine(apart[i] / n)
            for block, own in direction.items():
                for share, descent in zip((kernel[i] / n).tolist(), descents, strict=True):
                    own.add_(descent[block], alpha=share)
            walker.move(direction)


def repelled(losses: Tensor, bandwidth: float | None = None) -> tuple[Tensor, Tensor]:  # (n, m)
    """The kernel (n, n) of some losses, and the gradient (n, m) of sum_j k_ij by the losses f_i.

    >>> kernel, slopes = repelled(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), bandwidth=2.0)
    >>> [round(x, 4) for x in (*kernel[0].tolist(), *slopes[0].tolist())]
    [1.0, 0.3679, 0.3679, -0.3679]
    """
    losses = losses.to(torch.float64)
    apart = losses[:, None] - losses[None]
    squares = apart.square().sum(-1)
    if bandwidth is None:
        middle = float(squares.flatten().quantile(0.5))
        bandwidth = middle / log(len(losses)) if len(losses) > 1 else 0.0
        bandwidth = bandwidth or float(squares.max())
    if not bandwidth:  # all at one place: nothing says which way to part
        return torch.ones_like(squares), torch.zeros_like(losses)
    kernel = torch.exp(-squares / bandwidth)
    return kernel, (-2 / bandwidth * kernel[..., None] * apart).sum(1)
