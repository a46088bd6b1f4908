"""TrimmedMean: the mean of every coordinate without its extremes."""

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.ordered import cut, ordered
from equipoise.core.rule import RowRule

CARD = Card(
    name="TrimmedMean",
    shape="row",
    summary="Leaves out the largest and smallest values of every coordinate and averages the rest.",
    formula="d_k = mean of g_1k, ..., g_mk without the largest and the smallest beta m of them",
    title="Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
    authors=("Dong Yin", "Yudong Chen", "Kannan Ramchandran", "Peter Bartlett"),
    venue="ICML",
    year=2018,
    arxiv="1803.01498",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)"),
    single="the direction itself",
    cost="one sort of every coordinate, a block at a time; no Gramian",
    use="many directions of one kind, of which at most a known share may be wrong",
    avoid="objectives that differ by nature: the extremes it drops may be all that one of them asks for",
    status="main",
)


class TrimmedMean(RowRule):
    """Averages every coordinate without its extremes, so that a small share of directions cannot rule it.

    With the values of coordinate k sorted, the beta m smallest and the beta m largest are left out and
    the rest averaged. beta = 0 is the mean, beta near 1/2 the median.

    Use it for directions that estimate one thing, of which at most a share beta is wrong: it uses more of
    the right ones than the median. Avoid it for objectives that differ by nature.

    beta: share left out at each end, in [0, 1/2); a tenth by default. beta m is rounded up, and one value
        (two of an even number) always remains: of up to ten directions one is left out at each end, and
        one or two directions are averaged as they are.
    rows: (m, k) of one block. Returns (k,) in the rows' dtype; NaN where a coordinate holds one.

    Raises ValueError for a beta outside [0, 1/2). Source: Yin et al. 2018, definition 2.

    >>> import torch
    >>> TrimmedMean()(torch.tensor([[1.0], [2.0], [4.0], [99.0]])).tolist()
    [3.0]
    """

    def __init__(self, *, beta: float = 0.1) -> None:
        super().__init__()
        if not 0 <= beta < 0.5:
            raise ValueError(f"beta is {beta}; the share left out at each end lies in [0, 1/2)")
        self.beta = beta

    def extra_repr(self) -> str:
        return f"beta={self.beta}"

    def forward(self, rows: Tensor) -> Tensor:  # (m, k) -> (k,)
        count = cut(len(rows), self.beta)
        return ordered(rows)[count : len(rows) - count].mean(0)
