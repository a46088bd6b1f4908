"""Tracked: each objective's rows, averaged over the steps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core.gramian import wide
from equipoise.core.keyed import numbered
from equipoise.core.rule import LossesAfter, RowTransform, packed, unpacked
from equipoise.core.step import Step


class Tracked(RowTransform):
    """y_i <- y_i + r (g_i - y_i) for the row g_i of each objective, from y_i = 0 on.

    `rate` gives r by how many steps an objective has seen, this one included.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, int] = {}

    def rate(self, count: int) -> float:
        """How much of the new row is taken, in [0, 1]."""
        raise NotImplementedError

    def forward(self, rows: Tensor, *, block: str = "", names: Sequence[str] = ()) -> Tensor:  # -> (m, k)
        names = numbered(names or None, len(rows))
        fresh = rows.to(wide(rows.dtype))
        moved = torch.empty_like(fresh)
        for i, old in enumerate(self.known(block, names, fresh.shape[1])):
            rate = self.rate(self._counts.get(names[i], 0) + 1)
            before = torch.zeros_like(fresh[i]) if old is None else old.to(fresh)
            moved[i] = torch.lerp(before, fresh[i], rate)
        return self.becomes(block, names, moved).to(rows.dtype)

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        noted = self._next
        super().update(step, losses, epoch_ended)
        kept = {
            name
            for block, rows in noted.items()
            for name, row in rows.items()
            if self._state[block].get(name) is row
        }
        for name in kept:
            self._counts[name] = self._counts.get(name, 0) + 1

    def get_extra_state(self) -> Tensor:
        """How many steps each objective has seen."""
        return packed(self._counts)

    def set_extra_state(self, state: Tensor) -> None:
        self._counts = dict(unpacked(state))
