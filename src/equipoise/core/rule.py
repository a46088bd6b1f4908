"""The shapes of rule. The engine dispatches on them, never on a name.

A rule's `forward` names by keyword what it needs besides its subject, any of `losses` (m,),
`preference` (m,) on the simplex, `names` (m strings; state is kept per objective), `block`
(the name of the block of rows) and `groups` (the names of the groups of parameters that the Gramian,
or each of a stack, is of; none where all are one); the engine hands over what is named and nothing else.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import signature
from typing import Any, ClassVar, Literal
from zlib import crc32

import torch
from torch import Tensor, nn

from equipoise.core.step import Step

ROWS = "rows"
"""The key of the names of kept rows in a `state_dict`; the rows themselves stand under "rows.0" and so on."""

LossesAfter = Mapping[str, Tensor] | Callable[[], Mapping[str, Tensor]] | None


@cache
def _keywords(kind: type) -> frozenset[str]:
    return frozenset(tuple(signature(kind.forward).parameters)[2:])


class Rule(nn.Module):
    """What every rule shares: pure `forward`, state that advances in `update` alone.

    `needs_directions` says whether the engine must collect the m directions one by one; where not, a
    step costs one backward pass. `needs_losses_after` says whether `update` must have the losses after the
    step.
    """

    needs_directions: bool = True
    needs_losses_after: ClassVar[bool] = False

    def stages(self) -> tuple["RowTransform", ...]:
        """Transforms of its own, which the rows pass before the rule sees them; the engine applies them after
        those of the caller, and the rule's `update` is to call theirs."""
        return ()

    def objective_of(self, name: str) -> str:
        """The objective that a loss of this name belongs to, itself unless the rule says otherwise.

        A parameter that the losses of one objective alone reach is private, however many they are.
        """
        return name

    def uses(self, argument: str) -> bool:
        """Whether `forward` takes `argument` (losses, preference, names, block or groups)."""
        return argument in _keywords(type(self))

    def apply_to(self, subject: Tensor, **context: Tensor | Sequence[str] | str | None) -> Tensor:
        """Call the rule with as much of `context` as it uses.

        Raises ValueError where a preference is given to a rule that takes none.
        """
        if context.get("preference") is not None and not self.uses("preference"):
            raise ValueError(self.no_preference())
        return self(subject, **{key: value for key, value in context.items() if self.uses(key)})

    def no_preference(self) -> str:
        """The message where a preference is given to a rule that takes none."""
        name = type(self).__name__
        return f"{name} takes no preference; `equipoise list` tells those that do (--guarantee PREFERENCE)"

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        """Advance the state, once after each optimizer step; most rules have none.

        `losses` are the same objectives on the same batch after the optimizer step, by name, or a
        function that computes them, which is called only by a rule that needs them (FAMO).
        """


class Scalarizer(Rule):
    """losses (m,) -> scalar, differentiable; its weights are the derivatives by the losses.

    `preference_means` says what a preference p is, where one is taken: "weights" of the losses (Linear);
    "reciprocals" of the proportions in which losses are to stand (Tchebycheff); those "proportions" (ASF).
    """

    needs_directions = False
    preference_means: ClassVar[Literal["weights", "reciprocals", "proportions"]] = "weights"


class GramianRule(Rule):
    """Gramian (m, m) float64 on the CPU -> weights (m,); the update is the weighted sum of rows.

    One whose weights do not depend on the Gramian (Mean) sets `needs_directions` to False and is given
    zeros of its shape. One that also takes a stack (g, m, m), and gives (g, m) for it, sets `batched`: the
    groups of a step are then solved at once. One that takes J1 J2' of two batches as it is, neither
    symmetric nor without negative eigenvalues, sets `crosses` (see `TwoBatches`).
    """

    batched: bool = False
    crosses: bool = False


class RowRule(Rule):
    """Rows (m, k) of one block -> (k,), block by block."""


class RowTransform(Rule):
    """Rows (m, k) of one block -> rows (m, k), block by block; stands before any rule.

    One that only measures sets `measures`: its rows give the Gramian, and what the rule combines are the
    rows as they came. Such ones stand last, and before a Gramian rule.

    State that follows the rows is kept for each block and objective: `forward` looks it up with `known`, and
    says with `becomes` what `update` is to make of it, so that it gives the same for the same input however
    often it is called. What is not finite anywhere is not kept. In `state_dict` each row is a tensor of its
    own, and the names of blocks and objectives, as bytes, are another.

    >>> class Momentum(RowTransform):
    ...     def forward(self, rows, *, block="", names=()):
    ...         known = self.known(block, names)
    ...         moved = [row if old is None else (row + old) / 2 for row, old in zip(rows, known)]
    ...         return self.becomes(block, names, torch.stack(moved))
    """

    measures: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._state: dict[str, dict[str, Tensor]] = {}
        self._next: dict[str, dict[str, Tensor]] = {}

    def known(
        self, block: str, names: Sequence[str], size: int | None = None
    ) -> list[Tensor | None]:  # -> m of (k,)
        """What is kept of each objective on a block, None for one not seen there.

        Raises ValueError where that has not `size` numbers, since the block has changed.
        """
        kept = self._state.get(block, {})
        found = [kept.get(name) for name in names]
        for name, old in zip(names, found, strict=True):
            if old is not None and size is not None and old.numel() != size:
                raise ValueError(
                    f"block {block!r} has changed: {old.numel()} numbers of {name!r} are kept, where its row "
                    f"now takes {size}; start anew"
                )
        return found

    def becomes(self, block: str, names: Sequence[str], rows: Tensor) -> Tensor:  # (m, k) -> (m, k)
        """Note what is to be kept after this step; gives the rows back."""
        kept = [row.clone(memory_format=torch.contiguous_format) for row in rows.detach()]
        self._next[block] = dict(zip(names, kept, strict=True))
        return rows

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        moved, self._next = self._next, {}
        bad = {name for rows in moved.values() for name, row in rows.items() if not row.isfinite().all()}
        for block, rows in moved.items():
            kept = {name: row for name, row in rows.items() if name not in bad}
            self._state.setdefault(block, {}).update(kept)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        places = [(block, name) for block, rows in self._state.items() for name in rows]
        destination[prefix + ROWS] = packed(places)
        for i, (block, name) in enumerate(places):
            destination[f"{prefix}{ROWS}.{i}"] = self._state[block][name]

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
        rest = dict(state_dict)
        places = rest.pop(prefix + ROWS, None)
        keys = [prefix + ROWS]
        if places is not None:
            self._state, self._next = {}, {}
            for i, (block, name) in enumerate(unpacked(places)):
                keys.append(f"{prefix}{ROWS}.{i}")
                row = rest.pop(keys[-1], None)
                if row is not None:
                    self._state.setdefault(block, {})[name] = row.detach().clone()
        missing_keys.extend(key for key in keys if key not in state_dict)
        super()._load_from_state_dict(
            rest, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


class Draws(Rule):
    """A rule that draws: the generator's state is a buffer that only `update` advances.

    `generator` seeds the stream (its state is copied, it is not advanced); by default seed 0.
    """

    generator_state: Tensor

    def __init__(self, generator: torch.Generator | None = None) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(0) if generator is None else generator
        self.register_buffer("generator_state", source.get_state().clone())

    def draws(self, salt: str = "") -> torch.Generator:
        """A CPU generator at the present state, another stream for each `salt` (block name)."""
        generator = torch.Generator()
        generator.set_state(self.generator_state.cpu())
        if salt:
            seed = int(torch.randint(2**62, (), generator=generator)) ^ crc32(salt.encode())
            generator.manual_seed(seed)
        return generator

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        generator = self.draws()
        fresh = int(torch.randint(2**62, (), generator=generator))
        self.generator_state.copy_(generator.manual_seed(fresh).get_state())


def packed(value: Any) -> Tensor:
    """A plain value as JSON in bytes: a tensor, so that every format for tensors can hold it."""
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)


def unpacked(state: Tensor) -> Any:
    """The value of such a tensor."""
    return json.loads(bytes(state.tolist()))
