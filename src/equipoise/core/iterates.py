"""Iterates: models of a run with their losses and weights, of which none dominates another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Iterate:
    """A detached copy of a model's tensors, its losses (m,), and its weight in the average."""

    tensors: Mapping[str, Tensor]
    losses: Tensor
    weight: float


def insert(stored: Sequence[Iterate], new: Iterate) -> list[Iterate]:
    """The stored iterates with a new one, oldest first; the sum of the weights grows by that of the new one.

    As bad as a stored one or worse in every loss, it is not stored, and its weight is divided evenly
    over those that dominate it. Else it takes the place, and the weights, of those that it dominates.
    Source: Liu et al. 2026 (AdaOMD-TCH), adaptive online-to-batch conversion.
    """
    losses = torch.stack([old.losses for old in (*stored, new)])
    better = (losses[:-1] <= new.losses).all(1).tolist()
    worse = (losses[:-1] >= new.losses).all(1).tolist()
    if any(better):
        share = new.weight / sum(better)
        return [
            Iterate(old.tensors, old.losses, old.weight + share * dominates)
            for old, dominates in zip(stored, better, strict=True)
        ]
    pairs = list(zip(stored, worse, strict=True))
    inherited = sum(old.weight for old, dominated in pairs if dominated)
    kept = [old for old, dominated in pairs if not dominated]
    return [*kept, Iterate(new.tensors, new.losses, new.weight + inherited)]


def thin(stored: Sequence[Iterate], most: int) -> list[Iterate]:
    """`most` of the iterates at most, with the same weighted average.

    The two whose losses are nearest, relative to the range of each loss over all, become their weighted mean
    with the weighted mean of their losses, until they are few enough. For convex losses what is noted of a
    mean is an upper bound of its losses.
    """
    kept = list(stored)
    while len(kept) > most:
        losses = torch.stack([iterate.losses for iterate in kept])
        width = losses.amax(0) - losses.amin(0)
        places = losses / torch.where(width > 0, width, 1.0)
        distances = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = int(distances.fill_diagonal_(float("inf")).argmin())
        first, second = sorted(divmod(nearest, len(losses)))
        other, one = kept.pop(second), kept.pop(first)
        weight = one.weight + other.weight
        share = other.weight / weight
        tensors = {name: tensor.lerp(other.tensors[name], share) for name, tensor in one.tensors.items()}
        kept = insert(kept, Iterate(tensors, one.losses.lerp(other.losses, share), weight))
    return kept


def weighted_mean(stored: Sequence[Iterate]) -> dict[str, Tensor]:
    """The weighted mean of the iterates' tensors, summed in float32 at least, in their dtypes.

    Raises ValueError where none is stored.
    """
    if not stored:
        raise ValueError("there is no iterate yet, so there is no mean of them")
    whole = sum(iterate.weight for iterate in stored)
    found = {}
    for name, like in stored[0].tensors.items():
        total = torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))
        for iterate in stored:
            total.add_(iterate.tensors[name].to(total), alpha=iterate.weight / whole)
        found[name] = total.to(like.dtype)
    return found
