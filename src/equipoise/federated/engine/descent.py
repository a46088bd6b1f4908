"""One step of local descent on lists of tensors: clipping, weight decay, momentum, all tensors at once."""

import torch
from torch import Tensor

from equipoise.federated.local import Local

Rows = list[Tensor]


def moved(gradients: Rows, leaves: Rows, momenta: Rows, local: Local) -> tuple[Rows, Rows]:
    """The step's directions after weight decay and momentum, and the momenta after it."""
    if local.weight_decay:
        gradients = list(torch._foreach_add(gradients, leaves, alpha=local.weight_decay))  # pyright: ignore
    if not local.momentum:
        return gradients, momenta
    if not momenta:
        momenta = [gradient.clone() for gradient in gradients]
    else:
        torch._foreach_mul_(momenta, local.momentum)  # pyright: ignore
        torch._foreach_add_(momenta, gradients)  # pyright: ignore
    return momenta, momenta


def clipped(gradients: Rows, most: float | None) -> Rows:
    """Gradients of one client, shortened together to a length of `most`."""
    if most is None:
        return gradients
    length = torch.linalg.vector_norm(torch.stack([part.norm() for part in gradients]))
    factor = (most / length).clamp(max=1.0).nan_to_num(1.0)
    return [part * factor for part in gradients]


def descend(leaves: Rows, directions: Rows, rate: float) -> None:
    """leaves - rate * directions, in place."""
    torch._foreach_add_(leaves, directions, alpha=-rate)  # pyright: ignore


def accumulate(totals: Rows, parts: Rows) -> None:
    """totals + parts, in place."""
    torch._foreach_add_(totals, parts)  # pyright: ignore
