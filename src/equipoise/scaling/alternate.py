"""Alternate: one objective at a time, in turn."""

from collections.abc import Mapping, Sequence

import numpy as np

from equipoise.core.card import Card
from equipoise.core.checks import check_count
from equipoise.scaling.runs import Array
from equipoise.scaling.schedule import Schedule

CARD = Card(
    name="Alternate",
    shape="schedule",
    summary="One objective at a time, each for so many steps in its turn.",
    formula="p(t) = e_i for b_i steps, then the next",
    title="Alternating Gradient Descent and Mixture-of-Experts for Integrated Multimodal Perception",
    authors=(
        "Hassan Akbari",
        "Dan Kondratyuk",
        "Yin Cui",
        "Rachel Hornung",
        "Huisheng Wang",
        "Hartwig Adam",
    ),
    venue="NeurIPS",
    year=2023,
    arxiv="2305.06324",
    single="ratio 1",
    cost="nothing",
    use="objectives of unlike shapes of input, which no batch can hold together",
    avoid="objectives that conflict: no step sees two of them, so that no rule can reconcile them",
    status="main",
)


class Alternate(Schedule):
    """Objectives in turn, each for `blocks` steps.

    names: in the order of their turns, or {name: steps of its turn}. Raises ValueError for turns that are no
    whole number of 1 or more.

    Source: Akbari et al. 2023, section 3.1; there the turns are drawn, here they are in order (draw them with
    `ObjectiveSampler(Static(...), rounding="multinomial")`).

    >>> turns = Alternate({"image": 2, "text": 1})
    >>> [turns.names[turns.ratios(step).argmax()] for step in range(4)]
    ['image', 'image', 'text', 'image']
    """

    def __init__(self, names: Sequence[str] | Mapping[str, int]) -> None:
        super().__init__(names if isinstance(names, str) else tuple(names))
        turns = names if isinstance(names, Mapping) else dict.fromkeys(self.names, 1)
        self.blocks = tuple(turns[name] for name in self.names)
        for name, block in zip(self.names, self.blocks, strict=True):
            check_count(1, **{f"the turn of {name!r}": block})
        self._order = np.repeat(np.arange(len(self.names)), self.blocks)

    def ratios(self, step: int, steps: int | None = None) -> Array:
        return np.eye(len(self.names))[self._order[step % len(self._order)]]
