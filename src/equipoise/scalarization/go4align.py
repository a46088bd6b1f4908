"""GO4Align: objectives that progress alike share one weight, so that all stay in step."""

from collections.abc import Iterable, Sequence
from math import log

import numpy as np
import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import Keyed, numbered
from equipoise.core.rule import LossesAfter, Scalarizer
from equipoise.core.step import Step

CARD = Card(
    name="GO4Align",
    shape="scalarizer",
    summary="Groups the objectives by scale and past risk, and gives each group one weight.",
    formula="sum_i w_g(i) f_i, w_g the mean over group g of q_i sum(f) / f_i, q <- q exp(-eta f) / Z",
    title="GO4Align: Group Optimization for Multi-Task Alignment",
    authors=("Jiayi Shen", "Cheems Wang", "Zehao Xiao", "Nanne Van Noord", "Marcel Worring"),
    venue="NeurIPS",
    year=2024,
    arxiv="2404.06486",
    guarantees=("PERMUTATION", "NON_NEGATIVE", "STATEFUL"),
    single="the direction itself",
    cost="one backward pass and a grouping of m numbers",
    use="for many positive losses of different size, where single weights would flicker",
    avoid="for losses that reach zero: the weight grows as 1 / loss, and zero is refused",
    status="main",
)


class GO4Align(Keyed, Scalarizer):
    """One weight for each group of objectives with like progress, larger where the losses are small.

    sum_i w_i f_i with f `losses`: q_i is multiplied by exp(-eta f_i), eta `step_size`, and scaled to sum 1,
    so that it keeps the risk of past steps; a_i = q_i sum(f) / f_i brings the losses to one scale; the a_i
    are divided into `groups` groups of least squared distance from their means, and w_i is the mean of
    the group of i. All weights are held fixed in the derivative.

    Use it for many positive losses of different size. Not for losses that come near zero.

    The grouping is the exact optimum on the line, where the authors run k-means from random centres; with
    fewer objectives than groups each is alone. q spans the objectives present; one that is absent keeps
    its part and a new one enters with the mean. eta is in the unit of 1 / loss. Raises ValueError for a step
    size or a number of groups out of range, and naming the objectives whose loss is not positive.
    Source: the authors' code of Shen et al. 2024 (class GO4ALIGN), step size 1e-4 as there; the number of
    groups is a choice for each data set, and their script for NYUv2 starts with 1.

    >>> rule, losses = GO4Align(step_size=0.0), torch.tensor([1.0, 1.25, 10.0], requires_grad=True)
    >>> torch.autograd.grad(rule(losses), losses)[0]
    tensor([3.6750, 3.6750, 0.4083])
    """

    logits: Tensor  # log(n q): a newcomer at 0 has the mean share

    def __init__(
        self, *, groups: int = 2, step_size: float = 1e-4, objectives: Iterable[str] | None = None
    ) -> None:
        super().__init__(objectives=objectives)
        if groups < 1:
            raise ValueError(f"groups is {groups}; there is at least one")
        if not step_size >= 0:
            raise ValueError(f"step_size is {step_size}; it must not be negative")
        self.groups = groups
        self.step_size = step_size
        self.keep("logits", 0.0)

    def extra_repr(self) -> str:
        return f"groups={self.groups}, step_size={self.step_size}"

    def forward(self, losses: Tensor, *, names: Sequence[str] | None = None) -> Tensor:  # (m,) -> ()
        names = numbered(names, losses.numel())
        if not bool((losses > 0).all()):
            pairs = zip(names, losses.tolist(), strict=True)
            bad = ", ".join(f"{name!r} = {value:g}" for name, value in pairs if not value > 0)
            raise ValueError(
                f"GO4Align needs positive losses, not {bad}; add a constant, or use another rule"
            )
        logits = self.read("logits", names)
        fixed = losses.detach().to(logits)
        indicators = (logits - self.step_size * fixed).softmax(0) * (fixed.sum() / fixed)
        weights = group_means(indicators.cpu().numpy(), self.groups)
        return (torch.from_numpy(weights).to(losses) * losses).sum()

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        names, values = self.observed(step)
        if not names:
            return
        logits = self.read("logits", names)
        self.write("logits", names, logits - self.step_size * values.to(logits))
        everyone, logits = self.union(names), self.logits
        self.write("logits", everyone, logits - (logits.logsumexp(0) - log(len(everyone))))


def group_means(values: np.ndarray, groups: int) -> np.ndarray:  # (m,) -> (m,)
    """For each number the mean of its group, in the best division into at most `groups` groups.

    On a line the groups of least squared distance are intervals: the best division of the first j numbers
    into k is found from that of fewer into k - 1, in O(k m^2).
    """
    m = len(values)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    unit = ordered / max(abs(ordered[0]), abs(ordered[-1]), np.finfo(float).tiny)
    sums, squares = (np.concatenate([[0.0], np.cumsum(unit**power)]) for power in (1, 2))
    starts, ends = np.arange(m)[:, None], np.arange(1, m + 1)[None, :]
    count = np.maximum(ends - starts, 1)
    spread = (squares[ends] - squares[starts]) - (sums[ends] - sums[starts]) ** 2 / count
    spread = np.where(ends > starts, spread.clip(0.0), np.inf)  # of the numbers from start to end
    best, first = spread[0], np.zeros((min(groups, m), m), dtype=int)
    for k in range(1, min(groups, m)):
        totals = np.concatenate([[[np.inf]], best[:-1, None]]) + spread  # the last group begins at `start`
        first[k] = totals.argmin(0)
        best = totals.min(0)
    means, end = np.empty(m), m
    for k in reversed(range(min(groups, m))):
        start = first[k, end - 1]
        means[order[start:end]] = ordered[start:end].mean()
        end = start
    return means
