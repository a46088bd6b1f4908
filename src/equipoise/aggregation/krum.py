"""Krum: the one direction that lies closest to most of the others."""

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.rule import GramianRule

CARD = Card(
    name="Krum",
    shape="gramian",
    summary="Takes the one direction with the nearest neighbours, whatever the others say.",
    formula="w = e_i, i = argmin of the sum of |g_i - g_j|^2 over the m - f - 2 nearest g_j",
    title="Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
    authors=("Peva Blanchard", "El Mahdi El Mhamdi", "Rachid Guerraoui", "Julien Stainer"),
    venue="NeurIPS",
    year=2017,
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "SIMPLEX", "NON_NEGATIVE"),
    single="the direction itself",
    cost="the Gramian and a sort of its rows, O(m^2 log m)",
    use="many directions of one kind, such as clients, of which a minority may be anything",
    avoid="objectives that differ by nature: all but one are ignored",
    status="main",
)

ROUNDING = 1e-13
"""Part of |g_i|^2 + |g_j|^2 to which their squared distance is known from the Gramian."""


class Krum(GramianRule):
    """Follows the one direction that a crowd of others agrees with, so that liars are not followed.

    The score of a direction is the sum of its squared distances |g_i - g_j|^2 = G_ii + G_jj - 2 G_ij to the
    m - f - 2 nearest others, with f = `byzantine` how many may be anything; the least score wins.

    Use it for directions that estimate one thing, where 2 f + 2 < m. Avoid it for objectives that differ by
    nature, and where all are honest: it throws away all but one.

    byzantine: f, 0 or more; by default the most that 2 f + 2 < m allows, (m - 3) // 2, beyond which the
        paper promises no protection. Up to m - 3 the scores are still there.
    gramian: (m, m). Returns (m,). Equal scores share the weight (the paper takes the first, but an
        objective has no number). With m - f - 2 = 1 the two nearest have the same score, and with one or two
        directions there is nobody to ask: one is returned as it is, two are averaged.

    Raises ValueError for a negative f, and where f + 3 directions are not there. TorchJD sums distances
    where the paper sums their squares.

    Source: Blanchard et al. 2017, section 4 (the Krum function).

    >>> points = torch.tensor([[0.0], [1.0], [2.0], [3.0], [100.0]], dtype=torch.float64)
    >>> Krum()(points @ points.T).tolist()
    [0.0, 0.5, 0.5, 0.0, 0.0]
    """

    def __init__(self, *, byzantine: int | None = None) -> None:
        super().__init__()
        self.byzantine = checked(byzantine)

    def extra_repr(self) -> str:
        return f"byzantine={self.byzantine}"

    def forward(self, gramian: Tensor) -> Tensor:  # (m, m) -> (m,)
        return closest(gramian, suspects(self.byzantine, len(gramian)), 1)


def checked(byzantine: int | None) -> int | None:
    """How many directions may be anything; raises ValueError for a negative number."""
    if byzantine is not None and byzantine < 0:
        raise ValueError(f"byzantine is {byzantine}; it counts directions, from 0")
    return byzantine


def suspects(byzantine: int | None, m: int) -> int:
    """f for m directions, which are unprotected beyond f = (m - 3) // 2.

    Raises ValueError where there are too few to have a score for the f that was asked for.
    """
    if byzantine is None:
        return max((m - 3) // 2, 0)
    if m < byzantine + 3:
        raise ValueError(
            f"byzantine={byzantine} needs {byzantine + 3} directions or more, got {m}; "
            "give fewer, or None for as many as the directions allow"
        )
    return byzantine


def closest(gramian: Tensor, byzantine: int, count: int) -> Tensor:  # (m, m) -> (m,)
    """Equal weights on the `count` least scores; those that are level at the end share what is left.

    NaN where the Gramian is not finite: a sort would pass over such a direction in silence.
    """
    if not bool(gramian.isfinite().all()):
        return torch.full_like(gramian[0], torch.nan, dtype=torch.float64)
    gramian = (gramian.double() + gramian.double().T) / 2
    m = len(gramian)
    if m == 1:
        return torch.ones_like(gramian[0])
    squares = gramian.diagonal()
    sizes = squares[:, None] + squares
    distances = (sizes - 2 * gramian).clamp(min=0).fill_diagonal_(torch.inf)
    nearest, places = distances.sort(dim=1)
    neighbours = max(m - byzantine - 2, 1)
    scores = nearest[:, :neighbours].sum(1)
    doubt = ROUNDING * sizes.gather(1, places[:, :neighbours]).sum(1)
    last = scores.argsort()[count - 1]
    gap = scores - scores[last]
    level = gap.abs() <= doubt + doubt[last]
    sure = ((gap < 0) & ~level).double()
    weights = sure + level * ((count - sure.sum()) / level.sum())
    return weights / count
