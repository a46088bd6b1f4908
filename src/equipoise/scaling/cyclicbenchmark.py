"""CyclicBenchmark: the whole curve of quality against time from one run."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from equipoise.core.card import Card
from equipoise.core.checks import check_count

CARD = Card(
    name="CyclicBenchmark",
    shape="system",
    summary="Cycles of growing length: the end of each stands for a training of that length.",
    formula="cycle k ends at T_0 m^k; eta goes from its peak to 0 within each",
    title="Fast Benchmarking of Accuracy vs. Training Time with Cyclic Learning Rates",
    authors=("Jacob Portes", "Davis Blalock", "Cory Stephenson", "Jonathan Frankle"),
    venue="arXiv",
    year=2022,
    arxiv="2206.00832",
    single="any loss",
    cost="one run as long as the longest, in place of one of each length",
    use="two methods are to be compared at all budgets",
    avoid="a final figure: the end of a cycle is not quite a run of its own",
    status="main",
)


class CyclicBenchmark(LambdaLR):
    """Cycles that end at first, first x factor, first x factor^2 ... steps, each from the peak to 0.

    first: steps of the first cycle. factor: what the end of a cycle is multiplied with. Evaluate where
    `ended` is true. Raises ValueError for numbers that are no whole number of 1, or 2, or more.

    Source: Portes et al. 2022, the multiplicative schedule.
    """

    def __init__(self, optimizer: Optimizer, *, first: int, factor: int = 2, last_epoch: int = -1) -> None:
        check_count(1, first=first)
        check_count(2, factor=factor)
        self.first, self.multiple = first, factor
        super().__init__(optimizer, self._left, last_epoch)

    def ends(self, steps: int) -> list[int]:
        """The ends of all cycles within so many steps."""
        found, end = [], self.first
        while end <= steps:
            found.append(end)
            end *= self.multiple
        return found

    @property
    def ended(self) -> bool:
        """Whether the last step was the last of a cycle."""
        return self.last_epoch in self.ends(self.last_epoch)

    def _left(self, step: int) -> float:
        begin, end = 0, self.first
        while step >= end:
            begin, end = end, end * self.multiple
        return 1 - (step - begin) / (end - begin)
