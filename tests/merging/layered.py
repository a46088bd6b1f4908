"""Small models of five layers, on disk where a test wants them there."""

from pathlib import Path

import torch
from safetensors.torch import save_file

LAYERS = 5


def tensors(seed: int, layers: int = LAYERS) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    names = [
        "embed.weight",
        *(f"layers.{i}.{part}.w" for i in range(layers) for part in ("attn", "mlp")),
        "head",
    ]
    return {name: torch.randn(4, 3, generator=draw) for name in names}


def saved(folder: Path) -> Path:
    """A folder with a base and the models a, b and c."""
    for seed, name in enumerate(("base", "a", "b", "c")):
        save_file(tensors(seed), folder / f"{name}.safetensors")
    return folder


def paths(folder: Path, *names: str) -> dict[str, str]:
    return {name: str(folder / f"{name}.safetensors") for name in names}
