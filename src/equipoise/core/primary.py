"""The one objective that comes before the others, where a rule has such a one."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from equipoise.core.errors import unknown
from equipoise.core.keyed import Keyed
from equipoise.core.rule import LossesAfter, Rule
from equipoise.core.step import Step


class Primary(Keyed, Rule):
    """A rule with a primary objective, known by name; stands before the shape.

    primary: its name. None takes the first objective of the first step that `update` is told of, for good;
        until then, the first of those at hand.
    objectives: all names, where they are known from the start.

    The primary objective may be absent from a batch: `place` is then None, and nothing is to be moved, for
    the others move nothing alone. So that a name that is misspelt is not taken for one that is absent, it
    must have been in a step before, or among `objectives`.
    """

    def __init__(
        self, *, primary: str | None = None, objectives: Iterable[str] | None = None, **others: Any
    ) -> None:
        super().__init__(objectives=objectives, **others)
        if primary is not None and self.fixed and primary not in self.objectives:
            raise ValueError(f"the primary objective: {unknown('objective', primary, self.objectives)}")
        self.primary = primary
        self.keep("first", 0.0)
        self.keep("met", 0.0)

    def place(self, names: Sequence[str]) -> int | None:
        """Where the primary objective stands among `names`, None where it is absent.

        Raises ValueError for a name that neither they nor any step before had, with its nearest neighbours.
        """
        chosen = self.primary
        if chosen is None:
            marked = self.read("first", self.objectives).tolist()
            chosen = self.objectives[marked.index(1.0)] if 1.0 in marked else names[0]
        if chosen in names:
            return list(names).index(chosen)
        met = self.read("met", self.objectives).tolist()
        known = {name for name, yes in zip(self.objectives, met, strict=True) if yes or self.fixed}
        if chosen not in known:
            raise ValueError(
                f"the primary objective: {unknown('objective', chosen, {*names, *known})}; where it is only "
                f"absent from the first batches, give all names: {type(self).__name__}(objectives=[...])"
            )
        return None

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        names, _ = self.observed(step)
        if not names or step.overflowed:
            return
        if not bool(self.read("first", self.objectives).any()):
            self.write("first", names[:1], torch.ones(1))
        self.write("met", names, torch.ones(len(names)))
