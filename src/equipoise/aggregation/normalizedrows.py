"""NormalizedRows: every objective pulls on a block with the same strength."""

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.gramian import wide
from equipoise.core.rule import RowTransform

CARD = Card(
    name="NormalizedRows",
    shape="transform",
    summary="Gives all rows of a block one length before a rule combines them.",
    formula="g_i <- g_i l / |g_i|, l the mean of |g_i| over the rows that are not zero, or 1",
    title="OFVL-MS: Once for Visual Localization across Multiple Indoor Scenes",
    authors=(
        "Tao Xie",
        "Kun Dai",
        "Siyi Lu",
        "Ke Wang",
        "Zhiqiang Jiang",
        "Jinghan Gao",
        "Dedong Liu",
        "Jie Xu",
        "Lijun Zhao",
        "Ruifeng Li",
    ),
    venue="ICCV",
    year=2023,
    arxiv="2308.11928",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)"),
    single="the direction itself",
    cost="one pass over the rows of each block; the rule behind it needs the rows, not only their Gramian",
    use="before MGDA and its kin, which follow the shortest direction, and where losses differ in scale",
    avoid="near the optimum of one objective: a row that is all noise is made as long as the others",
    status="experimental",
)


class NormalizedRows(RowTransform):
    """Makes the rows of each block equally long, so that no objective leads by the size of its gradient.

    g_i <- g_i l / |g_i| for each row of `rows`. With `length` "mean" (the default) l is the mean length of
    the block's rows, so that blocks keep their sizes relative to each other and the whole its scale; with
    "one" l = 1 in every block. A zero row stays zero and does not count in the mean.

    Use it before rules that follow the shortest direction, as MGDA does, and for losses of unlike scales.
    Not where a small gradient means that an objective is done.

    rows: (m, k) of one block, in any floating-point dtype; the result has the same. Raises ValueError for
    another `length`.

    Source: Xie et al. 2023, gradient normalisation of the task-shared parameters. That the common length is
    the mean, and that each parameter has its own, is our reading.

    >>> NormalizedRows()(torch.tensor([[3.0, 0.0], [0.0, 1.0]])).tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """

    def __init__(self, *, length: str = "mean") -> None:
        super().__init__()
        if length not in ("mean", "one"):
            raise ValueError(f"length is {length!r}; it is 'mean' or 'one'")
        self.length = length

    def extra_repr(self) -> str:
        return f"length={self.length!r}"

    def forward(self, rows: Tensor) -> Tensor:  # (m, k) -> (m, k)
        size = rows.abs().amax().to(wide(rows.dtype)) if rows.numel() else rows.new_zeros(())
        if not size:
            return rows
        lengths = torch.linalg.vector_norm(rows / size, dim=1, dtype=torch.float64)
        positive = lengths > 0
        common = lengths[positive].mean() if self.length == "mean" else 1 / size
        factors = torch.where(positive, common / lengths, 0.0)
        return (rows * factors[:, None]).to(rows.dtype)
