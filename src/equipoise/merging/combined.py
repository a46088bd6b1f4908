"""Combined: a model whose tensors are the base's plus weighted task vectors, differentiable by weights."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call

from equipoise.core.errors import NonFiniteDirection, unknown
from equipoise.merging.block import finite
from equipoise.merging.layers import layers_of
from equipoise.merging.merge import Model, opened
from equipoise.merging.mergerule import weighted
from equipoise.merging.source import Checkpoint
from equipoise.merging.taskarithmetic import TaskArithmetic

By = Literal["task", "layer", "tensor"]


@dataclass(frozen=True)
class Coefficients:
    """The weights of m models, one set for each group of tensors; `merge` takes it as its `method`.

    groups: tensor -> its group. weights: group -> model -> weight. Called with the name of a tensor it gives
    the rule theta_0 + sum_i c_i delta_i with the weights of its group, so that a model found in memory is
    written from files, streamed and sharded.

    >>> found = Coefficients({"w": "all", "b": "all"}, {"all": {"left": 0.5, "right": 0.25}})
    >>> found("w").weight
    {'left': 0.5, 'right': 0.25}
    """

    groups: Mapping[str, str]
    weights: Mapping[str, Mapping[str, float]]
    _rules: dict[str, TaskArithmetic] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, tensor: str) -> TaskArithmetic:
        if tensor not in self.groups:
            raise ValueError(f"no weights were found for it: {unknown('tensor', tensor, self.groups)}")
        group = self.groups[tensor]
        return self._rules.setdefault(group, TaskArithmetic(weight=dict(self.weights[group])))


class Combined(nn.Module):
    """theta_0 + sum_i c_i delta_i in the place of a model's own tensors, differentiable by c.

    c are the `weights` (groups, m), the only parameter; `model` lends its structure and is left as it is. by:
    "task" has one group, of all tensors; "tensor" one for each tensor; "layer" one for each layer of a stack,
    and one for each tensor outside of stacks. All floating-point tensors of the `state_dict` take part,
    buffers too, but through these no gradient flows (BatchNorm has none for its statistics). start:
    the weights at first. m + 1 copies of the model are held, on its device, in float32 or float64.

    `forward` runs the model; `call` hands the model itself to a function. Both take weights of the same
    shape in the place of c.

    Raises ValueError where checkpoints or base lack a tensor of the model, have one more or another shape,
    NonFiniteDirection where one is not finite.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> experts = {"a": {"weight": torch.tensor([[3.0]])}, "b": {"weight": torch.tensor([[5.0]])}}
    >>> mixed = Combined(model, experts, {"weight": torch.tensor([[1.0]])}, start=0.5)
    >>> mixed(torch.ones(1)).item()
    4.0
    """

    def __init__(
        self,
        model: nn.Module,
        checkpoints: Mapping[str, Model] | Sequence[Model],
        base: Model,
        *,
        by: By = "task",
        start: float = 0.3,
    ) -> None:
        super().__init__()
        if by not in get_args(By):
            raise ValueError(unknown("way to share weights", by, get_args(By)))
        models = opened(checkpoints)
        origin = opened({"base": base})["base"]
        self.names = tuple(models)
        self._model = (model,)  # in a tuple, so that its parameters are not ours
        self._aliases = _aliases(model)
        self._check([origin, *models.values()])
        self.groups = _groups(self._aliases, by)
        self.group_names = tuple(dict.fromkeys(self.groups.values()))
        places = {group: place for place, group in enumerate(self.group_names)}
        self._place = {name: places[self.groups[name]] for name in self._aliases}
        self._own = dict(_state(model))
        self._base: dict[str, Tensor] = {}
        self._deltas: dict[str, Tensor] = {}
        for name, aliases in self._aliases.items():
            own = self._own[name]
            dtype = torch.promote_types(own.dtype, torch.float32)
            first = _read(origin, aliases, own, dtype)
            self._base[name] = first
            self._deltas[name] = torch.stack(
                [_read(file, aliases, own, dtype) - first for file in models.values()]
            )
        self.weights = nn.Parameter(torch.full((len(self.group_names), len(self.names)), float(start)))

    @property
    def model(self) -> nn.Module:
        """The model that lends its structure."""
        return self._model[0]

    def tensors(self, weights: Tensor | None = None) -> dict[str, Tensor]:  # (groups, m) -> by name
        """The combined tensors, in the model's dtypes."""
        weights = self.weights if weights is None else weights
        found = {}
        for name, first in self._base.items():
            moved = weighted(weights[self._place[name]].to(first.device), self._deltas[name])
            own = self._own[name]
            values = (first + moved).to(own.dtype)
            found[name] = values if isinstance(own, nn.Parameter) else values.detach()
        return found

    def forward(self, *args: Any, weights: Tensor | None = None, **kwargs: Any) -> Any:
        return functional_call(self.model, self.tensors(weights), args, kwargs)

    def call(self, function: Callable[[nn.Module], Any], weights: Tensor | None = None) -> Any:
        """`function` of the model while it holds the combined tensors."""
        tensors = {f"model.{name}": tensor for name, tensor in self.tensors(weights).items()}
        return functional_call(_Called(self.model, function), tensors, ())

    def coefficients(self, weights: Tensor | None = None) -> Coefficients:
        """The weights by name, as a method of `merge`."""
        values = (self.weights if weights is None else weights).detach().double().tolist()
        named = {
            group: dict(zip(self.names, row, strict=True))
            for group, row in zip(self.group_names, values, strict=True)
        }
        return Coefficients(self.groups, named)

    def _check(self, files: Sequence[Checkpoint]) -> None:
        known = {alias for aliases in self._aliases.values() for alias in aliases}
        faults = []
        for file in files:
            faults += [
                f"{file.path} has no tensor {aliases[0]!r}"
                for aliases in self._aliases.values()
                if not any(alias in file for alias in aliases)
            ]
            faults += [
                f"{file.path}: tensor {name!r} is not in the model"
                for name in file
                if name not in known and file.dtype(name).is_floating_point
            ]
        if faults:
            more = f"\nand {len(faults) - 10} more" if len(faults) > 10 else ""
            raise ValueError("the model and its checkpoints do not match:\n" + "\n".join(faults[:10]) + more)


class _Called(nn.Module):
    """A function of a model as the forward pass of a module, for `functional_call`."""

    def __init__(self, model: nn.Module, function: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self) -> Any:
        return self.function(self.model)


def turns(batches: Mapping[str, Iterable[Any]]) -> Iterator[dict[str, Any]]:
    """A batch of every task, turn after turn; a task whose batches end begins anew.

    Raises ValueError naming a task that has no batch, or whose batches can be gone through only once.
    """
    if not batches:
        raise ValueError("no batches; give some for each task, by name")
    running = {name: iter(found) for name, found in batches.items()}
    while True:
        turn = {}
        for name, found in batches.items():
            batch = next(running[name], None)
            if batch is None:
                running[name] = iter(found)
                batch = next(running[name], None)
            if batch is None:
                raise ValueError(f"the batches of {name} are none, or end for good; give a list or a loader")
            turn[name] = batch
        yield turn


def _state(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            yield name, tensor


def _aliases(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Each tensor under its first name, with all names that it has: tied weights have several."""
    found: dict[int, list[str]] = {}
    for name, tensor in _state(model):
        found.setdefault(id(tensor), []).append(name)
    return {names[0]: tuple(names) for names in found.values()}


def _groups(aliases: Mapping[str, Sequence[str]], by: By) -> dict[str, str]:
    layers = layers_of(aliases) if by == "layer" else {}
    groups = {}
    for name, names in aliases.items():
        group = "all" if by == "task" else name
        if name in layers:
            group = f"{_stack(name)}.{layers[name][0]}"
        groups |= dict.fromkeys(names, group)
    return groups


def _stack(name: str) -> str:
    words = name.split(".")
    return ".".join(words[: next(i for i, word in enumerate(words) if word.isdigit())])


def _read(file: Checkpoint, aliases: Sequence[str], own: Tensor, dtype: torch.dtype) -> Tensor:
    name = next(alias for alias in aliases if alias in file)
    if file.shape(name) != own.shape:
        shapes = tuple(file.shape(name)), tuple(own.shape)
        raise ValueError(f"{file.path}: tensor {name!r} has shape {shapes[0]}, in the model {shapes[1]}")
    values = file[name].detach().to(own.device, dtype)
    if not finite(values):
        raise NonFiniteDirection([str(file.path)], f"tensor {name!r} holds NaN or infinity")
    return values
