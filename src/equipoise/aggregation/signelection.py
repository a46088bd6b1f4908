"""SignElection: every coordinate elects a sign, and those that bear it are averaged."""

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.gramian import wide
from equipoise.core.rule import RowRule

CARD = Card(
    name="SignElection",
    shape="row",
    summary="Elects the sign with the larger total in every coordinate and averages those that bear it.",
    formula="s_k = sgn(sum_i g_ik); d_k = mean of the g_ik with sgn(g_ik) = s_k",
    title="TIES-Merging: Resolving Interference When Merging Models",
    authors=("Prateek Yadav", "Derek Tam", "Leshem Choshen", "Colin Raffel", "Mohit Bansal"),
    venue="NeurIPS",
    year=2023,
    arxiv="2306.01708",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)"),
    single="the direction itself",
    cost="a few passes over the rows, one block at a time; no Gramian",
    use="task vectors or updates that touch different coordinates: zeros do not thin out the others",
    avoid="where an objective must not be hurt: the loser of an election gets nothing, at no price",
    status="main",
)


class SignElection(RowRule):
    """Lets the objectives elect a sign in every coordinate, and averages those on the winning side.

    s_k = sgn(sum_i g_ik) is the sign with the larger total; d_k is the mean of the g_ik of that sign, over
    those alone: a zero entry, or one of the other sign, does not make it smaller.

    Use it for task vectors and updates that touch different coordinates. Avoid it where none may be hurt.
    It is the second and third step of TIES merging; the first keeps each direction's largest entries.

    rows: (m, k) of one block. Returns (k,) in the rows' dtype. Where both signs have the same total, to
    within the rounding of the sums, nobody is elected and d_k is zero; the authors' code gives such
    a coordinate the sign that won most of the others.

    Source: Yadav et al. 2023, section 3, steps 2 (elect) and 3 (disjoint merge).

    >>> SignElection()(torch.tensor([[3.0, 1.0, 0.0], [1.0, -4.0, 0.0], [-1.0, -2.0, 5.0]])).tolist()
    [2.0, -3.0, 5.0]
    """

    def forward(self, rows: Tensor) -> Tensor:  # (m, k) -> (k,)
        values = rows.to(wide(rows.dtype))
        above, below = values.clamp(min=0).sum(0), values.clamp(max=0).sum(0)
        rounding = len(rows) * torch.finfo(values.dtype).eps * (above - below)
        tie = (above > 0) & (below < 0) & ((above + below).abs() <= rounding)
        up = above > -below
        total = torch.where(up, above, below)
        count = torch.where(up, values > 0, values < 0).sum(0)
        return torch.where(tie, 0.0, total / count.clamp(min=1)).to(rows.dtype)
