"""Opposing signals: the samples whose losses moved most, up and down, and how far they oppose each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.core.bundle import Bundle
from equipoise.core.errors import unknown

SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Opposing:
    """The two groups of samples that a step moved most.

    `rose` and `fell` are their names, the one that moved most first; a group holds no sample that moved the
    other way, and may be empty. `rise` and `fall` are the mean changes of loss, at least and at most zero.
    `share` is what both groups have of the summed sizes of all changes. `cosine` is that of the mean
    directions of the two groups, None where no directions were given or a group is empty.
    """

    rose: tuple[str, ...]
    fell: tuple[str, ...]
    rise: float
    fall: float
    share: float
    cosine: float | None = None


def find_opposing(
    changes: Mapping[str, float | Tensor], bundle: Bundle | None = None, *, count: int | None = None
) -> Opposing:
    """Find the samples whose losses a step raised and lowered most, and how far the two groups oppose.

    With c_i = loss_i after - loss_i before, `rose` has the `count` largest c_i > 0 and `fell` the `count`
    smallest c_i < 0. Where training oscillates, such groups often share a strong feature that each wants
    read the other way: their mean directions then point apart, with a cosine near -1. Use it at steps after
    which the loss jumps; after a small step loss i has moved by -<g_i, step>, and says no more than that.
    (On images of CIFAR-10 the cosine was -0.45 at jumps, against 0.13 for random groups; groups chosen by
    -<g_i, mean g> alone had -0.53: `evidence/opposing_signals.py`.)

    changes: the change of loss by sample; for a window of steps `swings` gives one.
    bundle: directions of the same samples, for the cosine. count: size of a group; a twentieth of the
        samples, one at least.

    Raises ValueError where there are no changes, for a change that is not finite, for names that the bundle
    and the changes do not share, and for a count below 1; NonFiniteDirection as `Bundle.gramian` does.

    Source: Rosenfeld and Risteski 2023, "Outliers with Opposing Signals Have an Outsized Effect on Neural
    Network Optimization", arXiv 2311.04163, section 2. The size of the groups and their cosine are ours.

    >>> found = find_opposing({"a": 2.0, "b": -0.1, "c": 0.2, "d": -3.0})
    >>> found.rose, found.fell, round(found.share, 4)
    (('a',), ('d',), 0.9434)
    """
    names = tuple(changes)
    gramian = None
    if bundle is not None:
        names = bundle.names
        gramian = bundle.gramian()
    return opposing_groups(changes, names, gramian, count)


def opposing_groups(
    changes: Mapping[str, float | Tensor],
    names: Sequence[str],
    gramian: Tensor | None,
    count: int | None = None,
) -> Opposing:  # (m, m)
    """As `find_opposing`, from the Gramian of the directions called `names`."""
    values = _values(changes, names)
    if count is None:
        count = max(1, round(SHARE * len(values)))
    if count < 1:
        raise ValueError(f"count is {count}; a group holds one sample or more")
    order = values.argsort(descending=True, stable=True).tolist()
    rose: list[int] = [i for i in order[:count] if values[i] > 0]
    fell: list[int] = [i for i in reversed(order[-count:]) if values[i] < 0]
    total = float(values.abs().sum())
    return Opposing(
        rose=tuple(names[i] for i in rose),
        fell=tuple(names[i] for i in fell),
        rise=float(values[rose].mean()) if rose else 0.0,
        fall=float(values[fell].mean()) if fell else 0.0,
        share=float(values[rose + fell].abs().sum()) / total if total else 0.0,
        cosine=None if gramian is None or not rose or not fell else _cosine(gramian, rose, fell),
    )


def swings(losses: Tensor) -> Tensor:  # (t + 1, n) -> (n,)
    """One change for each of n samples from their losses before and after each of t steps.

    Losses that swing to and fro cancel in a sum. Instead the changes (t, n) are projected on the pattern in
    time that they follow most: their first left singular vector, positive at the last step. Samples that
    rise and fall together get one sign, those that move against them the other. For t = 1 this is the
    change itself.

    Raises ValueError where there are no two rows of losses.

    >>> swings(torch.tensor([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 1.0]])).round(decimals=4)
    tensor([-1.4142,  1.4142,  0.0000], dtype=torch.float64)
    """
    if losses.ndim != 2 or len(losses) < 2:
        raise ValueError(f"losses are (steps + 1, samples), got shape {tuple(losses.shape)}")
    changes = losses.detach().double().diff(dim=0)
    if len(changes) == 1:
        return changes[0]
    pattern = torch.linalg.svd(changes, full_matrices=False).U[:, 0]
    pattern = pattern * (1.0 if pattern[-1] >= 0 else -1.0)
    return pattern @ changes


def _values(changes: Mapping[str, float | Tensor], names: Sequence[str]) -> Tensor:  # -> (m,)
    if not changes:
        raise ValueError("there are no changes of loss to look at")
    for name in names:
        if name not in changes:
            raise ValueError(f"a direction without a change of loss: {unknown('change', name, changes)}")
    if len(changes) > len(names):
        extra = next(name for name in changes if name not in set(names))
        raise ValueError(f"a change of loss without a direction: {unknown('direction', extra, names)}")
    values = torch.tensor([float(changes[name]) for name in names], dtype=torch.float64)
    for name, finite in zip(names, values.isfinite().tolist(), strict=True):
        if not finite:
            raise ValueError(f"the change of loss of {name!r} is {float(changes[name])}; leave it out")
    return values


def _cosine(gramian: Tensor, rose: list[int], fell: list[int]) -> float:  # (m, m)
    up = float(gramian[rose][:, rose].mean())
    down = float(gramian[fell][:, fell].mean())
    if up <= 0 or down <= 0:
        return 0.0
    return min(max(float(gramian[rose][:, fell].mean()) / (up * down) ** 0.5, -1.0), 1.0)
