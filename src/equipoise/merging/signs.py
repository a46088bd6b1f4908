"""Votes on the sign of every element, and what the models that agree with it give together."""

from typing import Literal

import torch
from torch import Tensor

Reduce = Literal["mean", "sum", "max"]


def elected(votes: Tensor, undecided: float = 1.0) -> Tensor:  # (m, *shape) -> shape
    """The sign of the sum of votes, 1 or -1; where they sum to zero, that of `undecided`.

    >>> elected(torch.tensor([[1.0, -3.0, 2.0], [1.0, 1.0, -2.0]]))
    tensor([ 1., -1.,  1.])
    """
    total = votes.sum(0)
    if undecided < 0:
        total.neg_()
    total.add_(0.0)  # no negative zero
    signs = torch.copysign(torch.ones_like(total), total)
    return signs.neg_() if undecided < 0 else signs


def agreed(
    votes: Tensor,  # (m, *shape)
    weights: Tensor,  # (m,)
    *,
    reduce: Reduce = "mean",
    undecided: float = 1.0,
    signs: Tensor | None = None,  # shape
) -> Tensor:  # -> shape
    """The votes that have the elected sign, or that of `signs`, put together; the votes are used up.

    `votes` are weighted task vectors. "sum" adds those that agree, "max" takes the largest of them, "mean"
    divides their sum by the sum of their weights, taken without sign. An element that nobody changes gets 0;
    a weight that is 0 in the dtype of the votes does not count.
    """
    signs = elected(votes, undecided) if signs is None else signs
    votes.mul_(signs).clamp_min_(0)
    if reduce == "max":
        return votes.amax(0).mul_(signs)
    merged = votes.sum(0).mul_(signs)
    if reduce == "sum":
        return merged
    shares = column(weights.abs(), votes)
    least = shares[shares > 0].min() if shares.any() else torch.ones(())
    votes.gt_(0).mul_(shares)
    return merged.div_(votes.sum(0).clamp_min_(float(least)))


def column(weights: Tensor, rows: Tensor) -> Tensor:  # (m,), (m, *shape) -> (m, 1, ...)
    """Weights in the dtype of rows, one for each row."""
    return weights.to(rows.dtype).view(-1, *[1] * (rows.dim() - 1))
