"""The classifier of a model: its last layer."""

from collections.abc import Iterable

from torch import nn


def classifier_prefix(names: Iterable[str], head: str | None = None) -> str:
    """The module that the last parameter belongs to, or the one that is named, with a dot behind it.

    Empty where the model is its own classifier. Raises ValueError where no parameter lies in the module that
    is named.

    >>> classifier_prefix(["0.weight", "0.bias", "2.weight", "2.bias"])
    '2.'
    """
    names = list(names)
    prefix = names[-1].rpartition(".")[0] if head is None else head
    prefix += "." if prefix else ""
    if not any(name.startswith(prefix) for name in names):
        raise ValueError(f"the model has no parameters in {prefix[:-1]!r}; it has {', '.join(names)}")
    return prefix


def linear_classifier(model: nn.Module, head: str | None = None) -> tuple[str, nn.Linear]:
    """The name and the module of a model's classifier; "" where that is the model itself.

    Raises ValueError where it is no Linear.
    """
    name = classifier_prefix((name for name, _ in model.named_parameters()), head).removesuffix(".")
    found = model.get_submodule(name)
    if not isinstance(found, nn.Linear):
        raise ValueError(
            f"the classifier {name!r} is a {type(found).__name__}, not a Linear; name it with head="
        )
    return name, found
