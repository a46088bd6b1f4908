"""DBMTL: directions of the log losses, averaged over the steps and made equally long."""

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import numbered
from equipoise.core.rule import GramianRule, LossesAfter, RowTransform
from equipoise.core.step import Step
from equipoise.core.tracked import Tracked

CARD = Card(
    name="DBMTL",
    shape="gramian",
    summary="Takes logarithms of the losses and makes the directions, averaged over steps, equally long.",
    formula="y_i <- g_i/f_i + beta_k (y_i - g_i/f_i); update max_j |y_j| sum_i y_i / |y_i|",
    title="Dual-Balancing for Multi-Task Learning",
    authors=(
        "Baijiong Lin",
        "Weisen Jiang",
        "Feiyang Ye",
        "Yu Zhang",
        "Pengguang Chen",
        "Ying-Cong Chen",
        "Shu Liu",
        "Ivor W. Tsang",
        "James T. Kwok",
    ),
    venue="Neural Networks",
    year=2025,
    arxiv="2308.12029",
    guarantees=(
        "PERMUTATION",
        "HOMOGENEOUS(1)",
        "NON_NEGATIVE",
        "LOSS_SCALE_INVARIANT",
        "STRONGLY_STATIONARY",
        "STATEFUL",
    ),
    single="the average of the directions of its log loss, at first a tenth of that direction",
    cost="m more copies of the parameters, none with beta = 0; O(m)",
    use="positive losses in different units, of which none should lead by its scale",
    avoid="losses that reach zero, where no objective may be hurt, and heads trained by plain descent, which "
    "see the scale of their loss",
    status="main",
)

FLOOR = 1e-8  # relative to the largest loss of the batch


class DBMTL(GramianRule):
    """Balances the losses by logarithms and the directions by their lengths, so that no scale counts.

    y_i <- h_i + beta_k (y_i - h_i) from y_i = 0 on, with h_i = g_i / f_i the direction of the log loss and
    beta_k = `beta` / k^`sigma` at the k-th step of an objective. The update is max_j |y_j| sum_i y_i / |y_i|.
    That is for shared parameters: private ones get the gradient of f_i, as from any rule, where the paper's
    get that of log f_i. Adam and its like see no difference; under plain descent scale counts there.

    When to use: positive losses in different units. When not: a loss that goes to zero, whose logarithm never
    stops to pull.

    beta: in [0, 1); 0 keeps no average, needs no memory and no rows, only the Gramian. sigma: 0 or more.
        0.9 and 0 are LibMTL's defaults.
    gramian: (m, m) of the rows y, which `stages` gives to the engine; with beta = 0 of the directions
        themselves. losses: (m,), looked at with beta = 0 (None counts as 1 each). Returns (m,).

    A loss below 1e-8 of the largest counts as that (LibMTL adds 1e-8). A zero direction gets weight 0. State
    is kept by name and moves in `update`. Raises ValueError for beta or sigma out of range, and naming an
    objective with a negative loss. Source: Lin et al. 2023, loss and gradient balancing.

    >>> DBMTL(beta=0.0)(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]))
    tensor([1.0000, 1.4142], dtype=torch.float64)
    """

    def __init__(self, *, beta: float = 0.9, sigma: float = 0.0) -> None:
        super().__init__()
        if not 0 <= beta < 1 or not sigma >= 0:
            raise ValueError(f"beta is {beta} and sigma {sigma}; they lie in [0, 1) and at 0 or more")
        self.averages = LogRows(beta, sigma) if beta else None

    def stages(self) -> tuple[RowTransform, ...]:
        return () if self.averages is None else (self.averages,)

    def forward(
        self, gramian: Tensor, *, losses: Tensor | None = None, names: Sequence[str] | None = None
    ) -> Tensor:  # (m, m), (m,) -> (m,)
        lengths = gramian.double().diagonal().clamp(min=0).sqrt()
        size = lengths
        if self.averages is None and losses is not None:
            size = lengths / lifted(losses, numbered(names, len(lengths))).to(lengths)
        return torch.where(lengths > 0, size.max() / lengths, 0.0)

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        if self.averages is not None:
            self.averages.update(step, losses, epoch_ended)


class LogRows(Tracked):
    """Averages of the directions of the log losses, of which a share `beta` / k^`sigma` is the old one."""

    def __init__(self, beta: float, sigma: float) -> None:
        super().__init__()
        self.beta, self.sigma = beta, sigma

    def extra_repr(self) -> str:
        return f"beta={self.beta}, sigma={self.sigma}"

    def rate(self, count: int) -> float:
        return 1 - self.beta / count**self.sigma

    def forward(
        self, rows: Tensor, *, block: str = "", names: Sequence[str] = (), losses: Tensor | None = None
    ) -> Tensor:  # (m, k), (m,) -> (m, k)
        if losses is not None:
            divisor = lifted(losses, numbered(names or None, len(rows))).to(rows.device)
            rows = (rows / divisor[:, None]).to(rows.dtype)
        return super().forward(rows, block=block, names=names)


def lifted(losses: Tensor, names: Sequence[str]) -> Tensor:  # (m,) -> (m,) float64
    """The losses, none below the floor.

    Raises ValueError naming a negative one.
    """
    losses = losses.detach().double()
    bad = [f"{n!r} = {x:g}" for n, x in zip(names, losses.tolist(), strict=True) if x < 0]
    if bad:
        raise ValueError(f"DBMTL takes logarithms of losses, not of {', '.join(bad)}; add a constant to them")
    finite = losses[losses.isfinite()]
    largest = float(finite.max()) if finite.numel() else 0.0
    return losses.clamp(min=FLOOR * largest) if largest else torch.ones_like(losses)
