"""The shapes of rule. The engine dispatches on them, never on a name.

A rule's `forward` names by keyword what it needs besides its subject, any of `losses` (m,),
`preference` (m,) on the simplex, `names` (m strings; state is kept per objective), `block`
(the name of the block of rows) and `groups` (the names of the groups of parameters that the Gramian,
or each of a stack, is of; none where all are one); the engine hands over what is named and nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import signature
from typing import ClassVar
from zlib import crc32

import torch
from torch import Tensor, nn

from equipoise.core.step import Step

LossesAfter = Mapping[str, Tensor] | Callable[[], Mapping[str, Tensor]] | None


@cache
def _keywords(kind: type) -> frozenset[str]:
    return frozenset(tuple(signature(kind.forward).parameters)[2:])


class Rule(nn.Module):
    """What every rule shares: pure `forward`, state that advances in `update` alone.

    `needs_directions` says whether the engine must collect the m directions one by one; where not, a
    step costs one backward pass.
    """

    needs_directions: bool = True

    def stages(self) -> tuple["RowTransform", ...]:
        """Transforms of its own, which the rows pass before the rule sees them; the engine applies them after
        those of the caller, and the rule's `update` is to call theirs."""
        return ()

    def uses(self, argument: str) -> bool:
        """Whether `forward` takes `argument` (losses, preference, names, block or groups)."""
        return argument in _keywords(type(self))

    def apply_to(self, subject: Tensor, **context: Tensor | Sequence[str] | str | None) -> Tensor:
        """Call the rule with as much of `context` as it uses.

        Raises ValueError where a preference is given to a rule that takes none.
        """
        if context.get("preference") is not None and not self.uses("preference"):
            raise ValueError(f"{type(self).__name__} takes no preference")
        return self(subject, **{key: value for key, value in context.items() if self.uses(key)})

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        """Advance the state, once after each optimizer step; most rules have none.

        `losses` are the same objectives on the same batch after the optimizer step, by name, or a
        function that computes them, which is called only by a rule that needs them (FAMO).
        """


class Scalarizer(Rule):
    """losses (m,) -> scalar, differentiable; its weights are the derivatives by the losses."""

    needs_directions = False


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
    often it is called. What is not finite anywhere is not kept.

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

    def known(self, block: str, names: Sequence[str]) -> list[Tensor | None]:  # -> m of (k,)
        """What is kept of each objective on a block, None for one not seen there."""
        kept = self._state.get(block, {})
        return [kept.get(name) for name in names]

    def becomes(self, block: str, names: Sequence[str], rows: Tensor) -> Tensor:  # (m, k) -> (m, k)
        """Note what is to be kept after this step; gives the rows back."""
        self._next[block] = dict(zip(names, rows.detach().clone().unbind(), strict=True))
        return rows

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        moved, self._next = self._next, {}
        bad = {name for rows in moved.values() for name, row in rows.items() if not row.isfinite().all()}
        for block, rows in moved.items():
            kept = {name: row for name, row in rows.items() if name not in bad}
            self._state.setdefault(block, {}).update(kept)

    def get_extra_state(self) -> dict[str, dict[str, Tensor]]:
        """Block -> objective -> what is kept, (k,)."""
        return self._state

    def set_extra_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        self._state = {block: dict(rows) for block, rows in state.items()}


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
