"""What a case of the architecture matrix is: a model, three losses that share it, and what to expect."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

Built = tuple[nn.Module | Mapping[str, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Case:
    """One layer or model in one way of use.

    `build` gives the model (or its parameters by name) and the losses, from a fixed seed. `forms` are those
    that single parameters must have where layer rules are preferred to gradients; `covered` is the least
    share of the parameters under a layer rule. `refuses` is what the error says where no step is possible;
    `options` go to `backward`. `slow` cases run in one way only.
    """

    build: Callable[[], Built]
    forms: Mapping[str, str] = field(default_factory=dict)
    covered: float = 0.0
    refuses: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    slow: bool = False

    def made(self) -> Built:
        """The model and its losses, the same on every call."""
        torch.manual_seed(0)
        return self.build()


def three(out: Tensor) -> dict[str, Tensor]:
    """Three losses on the whole of an output: how large it is, a fixed pull, and a bend of another sign."""
    out = out.float() if out.itemsize < 4 else out
    draws = torch.Generator().manual_seed(1)
    pull, bend = (torch.randn(out.shape, generator=draws, dtype=out.dtype) for _ in range(2))
    return {"size": out.square().mean(), "pull": (out * pull).sum(), "bend": (out.tanh() * bend).sum()}


def on(layer: nn.Module, *inputs: Any, **options: Any) -> Built:
    """A layer called once, with the losses on its output (the first of several)."""
    out = layer(*inputs, **options)
    return layer, three(out[0] if isinstance(out, tuple) else out)


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers."""
    return torch.randn(shape, dtype=dtype)


def passed(model: nn.Module, *shape: int) -> Built:
    """A model called with normal numbers."""
    return model, three(model(draw(*shape)))


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with tanh between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1])
