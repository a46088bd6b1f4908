"""Groups of samples as objectives: languages, domains, populations in one batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def by_group(
    losses: Tensor, groups: Sequence[Any] | Tensor, names: Mapping[Any, str] | Sequence[str]
) -> dict[str, Tensor | None]:  # (n,), n labels
    """The mean loss of each group of samples by name, None for a group that the batch lacks.

    groups: a label for each sample. names: of each label, such as {0: "de", 1: "fr"}, or in the order of
    labels 0, 1, ...; a text that is a name stands for itself.

    Raises ValueError for a label without a name, and where losses and labels are not as many.

    >>> by_group(torch.tensor([1.0, 3.0, 5.0]), ["de", "de", "tr"], ("de", "fr", "tr"))
    {'de': tensor(2.), 'fr': None, 'tr': tensor(5.)}
    """
    labels = groups.tolist() if isinstance(groups, Tensor) else list(groups)
    if losses.dim() != 1 or len(labels) != len(losses):
        raise ValueError(
            f"losses have the shape {tuple(losses.shape)}, and there are {len(labels)} labels: one for each"
        )
    called = (
        dict(names) if isinstance(names, Mapping) else {**dict(enumerate(names)), **{n: n for n in names}}
    )
    strange = sorted({repr(label) for label in labels if label not in called})
    if strange:
        raise ValueError(
            f"no name for the labels {', '.join(strange)}; names are {', '.join(called.values())}"
        )
    found: dict[str, Tensor | None] = dict.fromkeys(called.values())
    for name in found:
        mine = torch.tensor([called[label] == name for label in labels], device=losses.device)
        if bool(mine.any()):
            found[name] = losses[mine].mean()
    return found
