"""A stand-in for a second device, where there is none: tensors that do not meet those of the CPU."""

from typing import Any

import torch
from torch import Tensor, nn


class Elsewhere(Tensor):
    """A tensor that behaves as one on another device: it meets only its like, and single numbers."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        goal = kwargs.get("other", args[1] if len(args) > 1 else None) if name == "to" else None
        if name not in ("to", "copy_", "__get__"):
            _meet(name, [*args, *kwargs.values()])
        with torch._C.DisableTorchFunctionSubclass():
            found = func(*args, **kwargs)
        here = name == "cpu" or (name == "to" and goal in ("cpu", torch.device("cpu")) and goal is not None)
        if isinstance(goal, Tensor):
            here = not isinstance(goal, Elsewhere)
        elif name == "to" and not here:
            here = not isinstance(args[0], Elsewhere)
        return _turned(found, Tensor if here else Elsewhere)


def move(rule: nn.Module) -> nn.Module:
    """Put the buffers of a rule elsewhere, as `rule.to("cuda")` would."""
    for module in rule.modules():
        for key, buffer in module._buffers.items():
            module._buffers[key] = None if buffer is None else buffer.as_subclass(Elsewhere)
    return rule


def _meet(name: str, given: list[Any]) -> None:
    flat = [one for arg in given for one in (arg if isinstance(arg, list | tuple) else [arg])]
    tensors = [one for one in flat if isinstance(one, Tensor) and one.ndim and one.dtype != torch.long]
    if len({isinstance(one, Elsewhere) for one in tensors}) > 1:
        raise RuntimeError(f"{name}: tensors on two devices")


def _turned(found: Any, kind: type[Tensor]) -> Any:
    if isinstance(found, Tensor):
        return found.as_subclass(kind)
    if isinstance(found, tuple) and type(found) is tuple:
        return tuple(_turned(one, kind) for one in found)
    return found
