"""MedianOfMeans: groups are averaged, and of the averages the median is taken."""

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.ordered import middle
from equipoise.core.rule import RowRule

CARD = Card(
    name="MedianOfMeans",
    shape="row",
    summary="Averages the directions in groups and takes the median of the averages in every coordinate.",
    formula="d_k = median over groups S of mean of g_ik, i in S",
    title="On the Generalization Mystery in Deep Learning",
    authors=("Satrajit Chatterjee", "Piotr Zielinski"),
    venue="arXiv",
    year=2022,
    arxiv="2203.10036",
    guarantees=("HOMOGENEOUS(1)",),
    single="the direction itself",
    cost="as the mean, and the median of a few rows; no Gramian",
    use="gradients of samples in random order, where the sort of WinsorizedMean costs too much",
    avoid="few objectives, or an order that means something: the answer depends on who stands with whom",
    status="experimental",
    evidence="coherence",
)


class MedianOfMeans(RowRule):
    """Averages the directions in groups and lets the groups vote, so that no single direction rules.

    The rows are dealt into `groups` runs of equal length, to within one, in the order given; d_k is the
    median of the means of coordinate k. Three groups are the M3 of the paper: what moves one group alone is
    not learnt. As many groups as directions give the coordinate-wise median, one gives the mean.

    Use it on the gradients of single samples in random order: it costs little more than the mean. Avoid it
    for few objectives and where the order means something, since the answer depends on the groups. On
    digits with half of the labels random no gain over the mean was sure (`evidence/coherence.py`).

    groups: 3; fewer where there are fewer directions, so that two are averaged.
    rows: (m, k) of one block. Returns (k,) in the rows' dtype; NaN where a coordinate holds one.

    Raises ValueError for fewer than one group. Source: Chatterjee and Zielinski 2022 (M3, the median of
    three minibatches).

    >>> MedianOfMeans()(torch.tensor([[1.0], [3.0], [4.0], [6.0], [99.0], [0.0]])).tolist()
    [5.0]
    """

    def __init__(self, *, groups: int = 3) -> None:
        super().__init__()
        if groups < 1:
            raise ValueError(f"groups is {groups}; one or more are averaged")
        self.groups = groups

    def extra_repr(self) -> str:
        return f"groups={self.groups}"

    def forward(self, rows: Tensor) -> Tensor:  # (m, k) -> (k,)
        parts = rows.tensor_split(min(self.groups, len(rows)))
        return middle(torch.stack([part.mean(0) for part in parts]))
