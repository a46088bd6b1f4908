"""Rows that pass through transforms before a rule sees them, one parameter at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core.call import Call
from equipoise.core.gramian import wide
from equipoise.core.held import Held, filled


def transformed(call: Call, leaf: Tensor, held: Held, keep: Sequence[int]) -> Tensor:  # -> (k, d)
    """The rows of one parameter after every transform, without the factor of a GradScaler.

    Raises ValueError for a transform that gives rows of another shape.
    """
    rows = torch.stack(filled(held.rows(), keep)).flatten(1).detach()
    if call.scale is not None:
        rows = rows.to(wide(rows.dtype)) / call.scale
    names = [call.names[i] for i in keep]
    name = next(n for other, n in zip(call.shared, call.leaf_names, strict=True) if other is leaf)
    with torch.no_grad():
        for transform in call.transforms:
            found = transform.apply_to(rows, block=name, names=names)
            if found.shape != rows.shape:
                shapes = f"{tuple(found.shape)} for rows of shape {tuple(rows.shape)}"
                raise ValueError(f"{type(transform).__name__} gave rows of shape {shapes}")
            rows = found
    return rows
