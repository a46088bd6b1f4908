"""Groups of parameters that are combined on their own: all, each layer, each tensor, or by name."""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

Groups = Literal["all", "layer", "tensor"] | Callable[[str], str]


def check_groups(groups: Groups, named: bool) -> None:
    """Raise ValueError for another word, and where names are needed that the caller did not give."""
    if groups not in ("all", "layer", "tensor") and not callable(groups):
        raise ValueError(
            f'groups is {groups!r}; it is "all", "layer", "tensor" or a function of a parameter\'s name'
        )
    if not named and (groups == "layer" or callable(groups)):
        raise ValueError(
            f"groups={groups!r} goes by the names of parameters; give them: parameters=model, or a mapping"
        )


def layer_name(parameter: str) -> str:
    """The layer of a parameter, by its name: all before the last dot, or the name itself."""
    return parameter.rpartition(".")[0] or parameter


def grouped(groups: Groups, leaves: Sequence[Tensor], names: Sequence[str]) -> dict[str, list[Tensor]]:
    """The shared parameters by group, in the order of the first of each."""
    found: dict[str, list[Tensor]] = {}
    for leaf, name in zip(leaves, names, strict=True):
        match groups:
            case "all":
                group = "all"
            case "tensor":
                group = name
            case "layer":
                group = layer_name(name)
            case by_name:
                group = str(by_name(name))
        found.setdefault(group, []).append(leaf)
    return found or {"all": []}
