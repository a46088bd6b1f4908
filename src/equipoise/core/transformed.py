"""Rows that pass through transforms before a rule sees them, one parameter at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core.call import Call
from equipoise.core.gramian import wide
from equipoise.core.held import Held, filled
from equipoise.core.rule import RowTransform


def transformed(
    call: Call, leaf: Tensor, held: Held, keep: Sequence[int]
) -> tuple[Tensor, Tensor]:  # -> (k, d), (k, d)
    """The rows of one parameter that are combined, and those that the rule sees, which differ by the
    transforms that only measure; without the factor of a GradScaler.
    """
    rows = torch.stack(filled(held.rows(), keep)).flatten(1).detach()
    if call.scale is not None:
        rows = rows.to(wide(rows.dtype)) / call.scale
    names = [call.names[i] for i in keep]
    name = next(n for other, n in zip(call.shared, call.leaf_names, strict=True) if other is leaf)
    return staged(call.transforms, rows, name, names, call.values[list(keep)])


@torch.no_grad()
def staged(
    transforms: Sequence[RowTransform],
    rows: Tensor,
    block: str,
    names: Sequence[str],
    losses: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # (m, k), (m,) -> (m, k), (m, k)
    """The rows of a block that are combined, and those that the rule sees, after every transform.

    Raises ValueError for a transform that gives rows of another shape.
    """
    combined = rows
    for transform in transforms:
        found = transform.apply_to(rows, block=block, names=names, losses=losses)
        if found.shape != rows.shape:
            shapes = f"{tuple(found.shape)} for rows of shape {tuple(rows.shape)}"
            raise ValueError(f"{type(transform).__name__} gave rows of shape {shapes}")
        rows = found
        combined = combined if transform.measures else rows
    return combined, rows
