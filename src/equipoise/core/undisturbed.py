"""Another look at a model in the midst of its training, which leaves no trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """What is computed within changes neither the model's buffers nor torch's random numbers.

    Running statistics move within, as in training, and are put back. Random numbers of the CPU and of the
    devices that the model lies on go on afterwards from where they were.

    >>> layer = nn.BatchNorm1d(2)
    >>> with undisturbed(layer):
    ...     _ = layer(torch.rand(4, 2))
    >>> layer.num_batches_tracked
    tensor(0)
    """
    devices = {t.device for t in (*model.parameters(), *model.buffers()) if t.device.type == "cuda"}
    held = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with torch.random.fork_rng(devices=[device.index for device in devices]):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in held:
                    buffer.copy_(before)
