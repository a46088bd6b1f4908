"""Which modules hold a parameter, and what they do with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

_SUMMED = (nn.Linear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, _ConvNd)


@dataclass(frozen=True, slots=True)
class Use:
    """A module that holds a parameter, under which name."""

    module: nn.Module
    leaf: str
    parameter: nn.Parameter

    @property
    def rows(self) -> bool:
        """Whether the module looks up rows."""
        return isinstance(self.module, (nn.Embedding, nn.EmbeddingBag))

    def summed(self) -> int | None:
        """The dimension that the layer sums over; None where that is not known."""
        if self.rows:
            return 0
        if "weight" not in self.leaf or self.parameter.dim() < 2:
            return None
        if isinstance(self.module, _ConvNd) and self.module.transposed:
            return 0 if self.module.groups == 1 else None
        if type(self.module).__name__ == "Conv1D" and self.parameter.dim() == 2:
            return 0
        return 1 if isinstance(self.module, _SUMMED) else None


def uses_of(model: nn.Module) -> dict[str, list[Use]]:
    """The modules that hold each parameter, under the name that it has first."""
    names, uses = {}, {}
    for path, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            name = names.setdefault(id(parameter), f"{path}.{leaf}" if path else leaf)
            uses.setdefault(name, []).append(Use(module, leaf, parameter))
    return uses


def chosen(name: str, patterns: Mapping[str, Any]) -> Any:
    """The value of the first pattern that fits."""
    return next((value for pattern, value in patterns.items() if fnmatchcase(name, pattern)), None)
