"""Keyed: state per objective, kept under the objective's name."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.core.errors import unknown
from equipoise.core.rule import Rule, packed, unpacked
from equipoise.core.step import Step


class Keyed(Rule):
    """State per objective, for a rule to declare, read and write by name; stands before the shape.

    Declare in the constructor: `keep` for a buffer, `learn` for a parameter of the optimizer. `read`
    gives the state of any objectives in any order, the initial value for one never seen, and changes
    nothing, so it belongs in `forward`. `write` makes room for new names and belongs in `update`.
    `objectives` names all of them from the start; any other name then raises ValueError.

    `state_dict` holds the names too, and loads into a fresh rule whatever its size.

    >>> class Worst(Keyed, Rule):
    ...     def __init__(self, *, objectives=None):
    ...         super().__init__(objectives=objectives)
    ...         self.keep("worst", 0.0)
    ...     def update(self, step, losses=None, epoch_ended=False):
    ...         names, values = self.observed(step)
    ...         self.write("worst", names, values.maximum(self.read("worst", names)))
    """

    def __init__(self, *, objectives: Iterable[str] | None = None, **others: Any) -> None:
        super().__init__(**others)
        names = () if objectives is None else tuple(objectives)
        if isinstance(objectives, str) or len(set(names)) < len(names):
            raise ValueError(f"objectives is {objectives!r}; give each name once, in a list")
        self.objectives: tuple[str, ...] = names
        self.fixed = objectives is not None
        self._initial: dict[str, float] = {}

    def keep(self, key: str, initial: float, *, shape: Sequence[int] = ()) -> None:
        """Declare a buffer (*shape, n), n objectives along the last axis, float64."""
        self._initial[key] = initial
        size = (*shape, len(self.objectives))
        self.register_buffer(key, torch.full(size, initial, dtype=torch.float64))

    def learn(self, key: str, initial: float) -> None:
        """Declare a parameter (n,) for the optimizer; the first call of `read` fixes n.

        It is there, empty, from the constructor on, so that the optimizer may be made before any loss
        is seen. An optimizer cannot follow a parameter that grows, so a name that comes later raises.
        """
        self._initial[key] = initial
        self.register_parameter(key, nn.Parameter(torch.full((len(self.objectives),), initial)))

    def read(self, key: str, names: Sequence[str]) -> Tensor:  # -> (..., m)
        """The state of `names` in their order; an objective never seen has the initial value."""
        if key in self._parameters and not self.objectives:
            self._admit(names)
        stored = getattr(self, key)
        if tuple(names) == self.objectives:
            return stored
        places = [self._place(key, name) for name in names]
        if -1 in places:
            fresh = stored.new_full((*stored.shape[:-1], 1), self._initial[key])
            stored = torch.cat([stored, fresh], -1)
        return stored[..., places]

    def write(self, key: str, names: Sequence[str], values: Tensor) -> None:  # values (..., m)
        """Set the state of `names`, of which new ones are added to every state of the rule."""
        self._admit(names)
        stored = self.get_buffer(key)
        values = values.detach().to(stored).expand(*stored.shape[:-1], len(names))
        if tuple(names) == self.objectives:
            setattr(self, key, values.clone())
        else:
            indices = [self.objectives.index(name) for name in names]
            places = torch.tensor(indices, dtype=torch.long, device=stored.device)
            setattr(self, key, stored.index_copy(-1, places, values))

    def union(self, names: Sequence[str]) -> tuple[str, ...]:
        """The objectives known so far, then those among `names` that are new."""
        return tuple(dict.fromkeys((*self.objectives, *names)))

    def observed(self, step: Step) -> tuple[tuple[str, ...], Tensor]:  # -> names, (m,)
        """Names and losses of the objectives that a step really used: finite ones, none skipped."""
        used = step.losses.isfinite().tolist()
        places = [i for i, name in enumerate(step.names) if used[i] and name not in step.skipped]
        return tuple(step.names[i] for i in places), step.losses[places]

    def get_extra_state(self) -> Tensor:
        """The names."""
        return packed(self.objectives)

    def set_extra_state(self, state: Tensor) -> None:
        self.objectives = tuple(unpacked(state))

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for key in self._initial:
            incoming = state_dict.get(prefix + key)
            if isinstance(incoming, Tensor) and incoming.shape != getattr(self, key).shape:
                self._replace(key, getattr(self, key).new_empty(incoming.shape))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _place(self, key: str, name: str) -> int:
        if name in self.objectives:
            return self.objectives.index(name)
        if not self._allows(name) or key in self._parameters:
            self._refuse(name)
        return -1

    def _allows(self, name: str) -> bool:
        """Whether there may be state of this name: fixed objectives have it in any group of parameters."""
        return not self.fixed or any(name.startswith(f"{one} in ") for one in self.objectives)

    def _admit(self, names: Sequence[str]) -> None:
        known = self.union(names)
        if len(known) == len(self.objectives):
            return
        learned = self.objectives and self._parameters.keys() & self._initial.keys()
        for name in known[len(self.objectives) :]:
            if learned or not self._allows(name):
                self._refuse(name)
        for key, initial in self._initial.items():
            stored = getattr(self, key).detach()
            fresh = stored.new_full((*stored.shape[:-1], len(known) - len(self.objectives)), initial)
            self._replace(key, torch.cat([stored, fresh], -1))
        self.objectives = known

    def _replace(self, key: str, values: Tensor) -> None:
        if key in self._parameters:
            self.get_parameter(key).data = values  # the same object, which the optimizer holds
        else:
            setattr(self, key, values)

    def _refuse(self, name: str) -> None:
        raise ValueError(
            f"{unknown('objective', name, self.objectives)}; "
            f"give all names at the start: {type(self).__name__}(objectives=[...])"
        )


def numbered(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """The names, or "0", "1", ... where there are none."""
    return tuple(map(str, range(count))) if names is None else tuple(names)


def within(group: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names under which state is kept for one group of parameters; "" stands for all of them."""
    return tuple(f"{name} in {group}" if group else name for name in names)


def by_name(option: float | Mapping[str, float], names: Sequence[str]) -> Tensor:  # -> (m,) float64
    """An option that is one number for all objectives, or a number for each by its name.

    Raises ValueError naming an objective that the mapping lacks.
    """
    if not isinstance(option, Mapping):
        return torch.full((len(names),), float(option), dtype=torch.float64)
    for name in names:
        if name not in option:
            raise ValueError(f"no value for the objective {name!r}; {unknown('entry', name, option)}")
    return torch.tensor([float(option[name]) for name in names], dtype=torch.float64)
