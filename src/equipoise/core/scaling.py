"""The factor of a GradScaler."""

import torch


def scale_of(scaler: torch.amp.GradScaler | None) -> float | None:
    """The scaler's factor; a fresh scaler is brought to life, which its own `scale` would have done."""
    if scaler is None or not scaler.is_enabled():
        return None
    scaler.scale(torch.ones((), device=scaler._device))
    return scaler.get_scale()
