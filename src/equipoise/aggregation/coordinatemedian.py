"""CoordinateMedian: the median of every coordinate."""

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.ordered import middle
from equipoise.core.rule import RowRule

CARD = Card(
    name="CoordinateMedian",
    shape="row",
    summary="Takes the median of every coordinate, which a minority of directions cannot move far.",
    formula="d_k = median of g_1k, ..., g_mk; of an even number the mean of the middle two",
    title="Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
    authors=("Dong Yin", "Yudong Chen", "Kannan Ramchandran", "Peter Bartlett"),
    venue="ICML",
    year=2018,
    arxiv="1803.01498",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)"),
    single="the direction itself",
    cost="one sort of every coordinate, a block at a time; no Gramian",
    use="many directions of one kind, such as clients or samples, of which just under half may be wrong",
    avoid="objectives that differ by nature: where most do not touch a coordinate, it never moves",
    status="main",
)


class CoordinateMedian(RowRule):
    """Takes the median of every coordinate: no minority of directions, however long, moves it far.

    d_k = median_i g_ik; of an even number of directions the mean of the middle two.

    Use it for directions that estimate one thing, where just under half of them may be anything. Avoid it
    for objectives that differ by nature: it is no weighted sum of them, a coordinate that fewer than half
    of them touch stays still, and skewed noise moves it off the mean.

    rows: (m, k) of one block. Returns (k,) in the rows' dtype; NaN where a coordinate holds one.

    Source: Yin, Chen, Ramchandran and Bartlett 2018, definition 1.

    >>> import torch
    >>> CoordinateMedian()(torch.tensor([[1.0, 0.0], [2.0, 4.0], [99.0, -9.0]])).tolist()
    [2.0, 0.0]
    """

    def forward(self, rows: Tensor) -> Tensor:  # (m, k) -> (k,)
        return middle(rows)
