"""Renewal of running statistics: those of batch normalisation, for the parameters that a model has now."""

import torch
from torch import nn

from equipoise.pareto.landscape import Landscape

BATCHES = 8
"""Batches over which statistics are averaged."""


def running(model: nn.Module) -> list[nn.Module]:
    """The layers of a model that keep a running mean, as batch normalisation does unless told otherwise."""
    return [
        layer for layer in model.modules() if isinstance(getattr(layer, "running_mean", None), torch.Tensor)
    ]


@torch.no_grad()
def renew(landscape: Landscape, model: nn.Module, *, seed: int = 0, batches: int = BATCHES) -> None:
    """Put the plain mean over some batches in the place of a model's running statistics.

    Forward passes alone, in training mode, on the first batches of a seed; where the model keeps no such
    statistics, nothing. A custom layer takes part where it has `running_mean`, `momentum` (None for the plain
    mean) and `reset_running_stats`, as torch's have.

    Source: Izmailov et al. 2018 (SWA, arXiv 1803.05407), section 3.2, for averages of weights.
    """
    layers = running(model)
    if not layers:
        return
    was, momenta = model.training, [layer.momentum for layer in layers]
    landscape.seed(seed)
    model.train()
    for layer in layers:
        layer.reset_running_stats()  # pyright: ignore[reportCallIssue]
        layer.momentum = None  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    for _ in range(batches):
        landscape.losses(model)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    model.train(was)
