"""OrthogonalUpdate: the primary objective moves as if it were alone, the others where it does not look."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import numbered
from equipoise.core.primary import Primary
from equipoise.core.rule import GramianRule

CARD = Card(
    name="OrthogonalUpdate",
    shape="gramian",
    summary="The primary direction, and of the others the part that is orthogonal to it.",
    formula="g_f + eta (g_b - <g_f, g_b> / |g_f|^2 g_f)",
    title="ODICE: Revealing the Mystery of Distribution Correction Estimation via Orthogonal-gradient Update",
    authors=("Liyuan Mao", "Haoran Xu", "Weinan Zhang", "Xianyuan Zhan"),
    venue="ICLR",
    year=2024,
    arxiv="2402.00348",
    guarantees=("HOMOGENEOUS(1)", "LINEAR_IN_ROW_SCALE", "STRONGLY_STATIONARY", "STATEFUL"),
    single="the direction itself",
    cost="the Gramian and m additions",
    use="one objective must fall as if it were alone, and the others may only use what it leaves free",
    avoid="the others must fall too: nothing keeps them from being hurt; see PCD and GEM",
    status="main",
    evidence="orthogonal_update",
)


class OrthogonalUpdate(Primary, GramianRule):
    """Follows the primary objective exactly, to first order, and the others orthogonally to it.

    d = g_f + eta sum_b (g_b - <g_f, g_b> / |g_f|^2 g_f), with g_f the direction of `primary` and g_b the
    others, so w_f = 1 - eta sum_b G_fb / G_ff and w_b = eta. Since <g_f, d> = |g_f|^2, the primary loss
    falls at the rate of g_f alone whatever the others are. In the paper f and b are the forward and the
    backward gradient of a value function; with more than one other their sum stands for b (our reading).

    When to use: auxiliary objectives that must neither slow the primary one nor speed it up.
    When not: the others must not be hurt (PCD, GEM), or nobody comes first (UPGrad).

    primary: the name of that objective; by default the first of the first step, which `update`
        remembers. Where it is absent from a batch nothing moves.
    objectives: all names, where the first batches may lack the primary one.
    eta: how much of the others is added, not negative; 1 by default, as in the authors' code.
    gramian: (m, m). Returns (m,). Where the primary direction is zero, nothing is taken from the others.

    Raises ValueError for a negative eta, and for a primary that no step had so far.

    Source: Mao et al. 2024, orthogonal-gradient update (section 3); the authors' code, `orthogonal_true_g`.

    >>> OrthogonalUpdate()(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]))
    tensor([1.5000, 1.0000], dtype=torch.float64)
    """

    def __init__(
        self, *, primary: str | None = None, eta: float = 1.0, objectives: Iterable[str] | None = None
    ) -> None:
        super().__init__(primary=primary, objectives=objectives)
        if not eta >= 0:
            raise ValueError(f"eta must be 0 or more, got {eta}")
        self.eta = eta

    def extra_repr(self) -> str:
        return f"primary={self.primary!r}, eta={self.eta}"

    def forward(self, gramian: Tensor, *, names: Sequence[str] | None = None) -> Tensor:  # (m, m) -> (m,)
        inner = gramian.double()
        place = self.place(numbered(names, len(inner)))
        if place is None:
            return torch.zeros_like(inner[0])
        weights = torch.full_like(inner[0], self.eta)
        weights[place] = 1.0
        square = inner[place, place]
        if square > 0:
            weights[place] -= self.eta * (inner[place].sum() - square) / square
        return weights
