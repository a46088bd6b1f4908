"""WinsorizedMean: the mean of every coordinate with its extremes pulled in."""

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.ordered import cut, ordered
from equipoise.core.rule import RowRule

CARD = Card(
    name="WinsorizedMean",
    shape="row",
    summary="Pulls the extreme values of every coordinate in to the next ones and averages.",
    formula="d_k = mean over i of clip(g_ik, low_k, high_k), low_k and high_k the c and 100 - c percentiles",
    title="On the Generalization Mystery in Deep Learning",
    authors=("Satrajit Chatterjee", "Piotr Zielinski"),
    venue="arXiv",
    year=2022,
    arxiv="2203.10036",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)"),
    single="the direction itself",
    cost="one sort of every coordinate, a block at a time; no Gramian",
    use="gradients of single samples with some wrong labels: what only a few ask for is held back",
    avoid="rare but right samples, which are held back as well; objectives that differ by nature",
    status="experimental",
    evidence="coherence",
)


class WinsorizedMean(RowRule):
    """Averages every coordinate after its extremes are pulled in, so that nothing counts that few ask for.

    With low_k and high_k the values of coordinate k at the percentiles c and 100 - c, d_k is the mean over
    i of g_ik clipped to [low_k, high_k]. c = 0 is the mean.

    Use it on the gradients of single samples: a direction in which only a few samples pull far, which is
    how wrong labels are learnt by heart, is cut. Avoid it where rare samples are right, and on objectives
    that differ by nature. Try a smaller learning rate first: on digits with half of the labels drawn at
    random it learnt 9% of the wrong ones where the mean learnt 48%, but with each at its own best rate the
    mean did better in test (0.85 against 0.78; `evidence/coherence.py`).

    c: percent pulled in at each end, in [0, 50); 8 by default. Our reading of the percentile: c m / 100,
        rounded up, values are pulled in at each end to the next one inward, and one value (two of an even
        number) always keeps its place, so that one or two directions are averaged as they are.
    rows: (m, k) of one block. Returns (k,) in the rows' dtype; NaN where a coordinate holds one.

    Raises ValueError for a c outside [0, 50). Source: Chatterjee and Zielinski 2022 (winsorized gradient
    descent); first in Chatterjee 2020, arXiv 2002.10657. The levels tried there go up to 8 (from memory).

    >>> import torch
    >>> WinsorizedMean()(torch.tensor([[1.0], [2.0], [4.0], [99.0]])).tolist()
    [3.0]
    """

    def __init__(self, *, c: float = 8.0) -> None:
        super().__init__()
        if not 0 <= c < 50:
            raise ValueError(f"c is {c}; the percentage pulled in at each end lies in [0, 50)")
        self.c = c

    def extra_repr(self) -> str:
        return f"c={self.c}"

    def forward(self, rows: Tensor) -> Tensor:  # (m, k) -> (k,)
        m, count = len(rows), cut(len(rows), self.c / 100)
        values = ordered(rows)
        return values.clamp(values[count], values[m - 1 - count]).mean(0)
