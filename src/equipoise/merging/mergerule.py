"""The shape of a merging rule: the tensors of m models in, one tensor out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from math import isinf, isnan
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from equipoise.core.errors import unknown
from equipoise.merging.block import Block, Blocks, Part

PerModel = float | Mapping[str, float] | Sequence[float]
"""One number for all models, or one for each: by name, or in the order of the models."""


class MergeRule(ABC):
    """How the tensors of m models become one. A subclass is a frozen dataclass; its fields are its options.

    A rule sees numbers only, never a file: first all tensors, if it wants (`survey`), then one tensor, if it
    wants (`measure`), then part after part of that tensor (`merge`). What one gives is handed to the next.
    All three may run in several threads, so a rule keeps nothing between calls.

    `needs_base`: whether it asks for the base. `whole`: whether `merge` wants a tensor at once, in its shape;
    else parts are flat, of at most `CHUNK` elements, and `by_row` keeps rows of the last axis together.
    `statistic`: the kind of measurements that it asks for ("fisher", "gram"), if any. `copies`: how many
    copies of one model's tensor in the dtype of the arithmetic it holds at most, beside those of the rows;
    an estimate of memory is made of it and of `beside`, one of time of `cost`.
    """

    needs_base: bool = False
    whole: bool = False
    by_row: bool = False
    statistic: str | None = None
    copies: float = 1.0
    per_model: ClassVar[tuple[str, ...]] = ("weight",)
    """The fields that may differ from model to model."""

    def survey(self, blocks: Blocks) -> Any:
        """What must be known of many tensors before the first is merged; None for most rules."""
        return None

    def surveyed_alike(self) -> Any:
        """What the survey hangs on, where it is over all tensors that the method merges; else None.

        Options may differ from tensor to tensor, and each set of them is a rule of its own. Where this is not
        None, each rule surveys the tensors of all rules of its kind, as if its options held for all of them,
        and rules that give equal values here share one survey. Where it is None, a rule surveys its own.
        """
        return None

    def measure(self, block: Block, survey: Any) -> Any:
        """What must be known of one tensor before its first part is merged; the survey for most rules."""
        return survey

    @abstractmethod
    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        """The merged values of a part."""

    def beside(self, block: Block) -> int:
        """Bytes of what it holds of a block that does not have the tensor's size; none for most rules."""
        return 0

    def cost(self, block: Block) -> float:
        """What the time of merging a block is proportional to, by about the products of a matrix product.

        For most rules it goes with the elements of all models, which take the time of ten products each.
        """
        return 10.0 * len(block) * block.numel

    def bound(self, names: Sequence[str]) -> Self:
        """This rule with each option that was given in the order of the models told by their names.

        Raises ValueError for a wrong number of values, an unknown model, a model without a value, and
        numbers that are NaN.
        """
        check_numbers(self)
        found = {}
        for field in fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            if field.name in self.per_model and isinstance(value, Sequence | Mapping | Tensor):
                found[field.name] = _by_name(f"{type(self).__name__}: {field.name}", value, names)
        return replace(self, **found) if found else self  # pyright: ignore[reportArgumentType]


def check_least(rule: str, option: str, value: float, least: float) -> None:
    """Raises ValueError unless an option is a finite number and not below the least."""
    if not least <= value < float("inf"):
        raise ValueError(f"{rule}: {option} is {value}; it is a finite number, {least:g} or more")


def check_numbers(rule: MergeRule) -> None:
    """Raises ValueError naming an option of a rule that is NaN, or infinite where models differ in it."""
    for field in fields(rule):  # pyright: ignore[reportArgumentType]
        value, single = getattr(rule, field.name), field.name in rule.per_model
        found = value if isinstance(value, Mapping) else {"": value}
        if single and isinstance(value, Sequence | Tensor) and not isinstance(value, str):
            found = dict(enumerate(map(float, value)))
        for key, one in found.items():
            if isinstance(one, float) and (isnan(one) or (single and isinf(one))):
                of = f" of {key}" if isinstance(value, Mapping) else ""
                raise ValueError(f"{type(rule).__name__}: {field.name}{of} is {one}; give a finite number")


def values_of(option: PerModel, names: Sequence[str]) -> Tensor:  # -> (m,) float64
    """An option of a bound rule, for each of the models in a block."""
    if isinstance(option, Mapping):
        return torch.tensor([option[name] for name in names], dtype=torch.float64)
    return torch.full((len(names),), float(option), dtype=torch.float64)  # pyright: ignore[reportArgumentType]


def normalized(weights: Tensor, names: Sequence[str]) -> Tensor:  # (m,) -> (m,)
    """Weights over their sum. Raises ValueError where they sum to zero, or to what rounding leaves of it."""
    total, size = weights.sum(), weights.abs().sum()
    if total.abs() <= torch.finfo(weights.dtype).eps * len(weights) * size:
        raise ValueError(
            f"the weights of {', '.join(names)} sum to 0, so they cannot be normalised; choose others, "
            "or normalize=False where the method has it"
        )
    return weights / total


def weighted(weights: Tensor, rows: Tensor) -> Tensor:  # (m,), (m, *shape) -> shape
    """The weighted sum of rows, in their dtype."""
    if rows.dim() == 2:
        return weights.to(rows.dtype) @ rows
    return torch.tensordot(weights.to(rows.dtype), rows, dims=1)


def _by_name(option: str, value: Any, names: Sequence[str]) -> dict[str, float]:
    if isinstance(value, Mapping):
        for name in value:
            if name not in names:
                raise ValueError(f"{option}: {unknown('model', name, names)}")
        if lost := [name for name in names if name not in value]:
            raise ValueError(f"{option} has no value for {', '.join(lost)}")
        return {name: float(value[name]) for name in names}
    if len(value) != len(names):
        raise ValueError(f"{option} has {len(value)} values for {len(names)} models: {', '.join(names)}")
    return {name: float(one) for name, one in zip(names, value, strict=True)}
