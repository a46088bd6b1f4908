"""Stages: one mixture after another, with a new optimizer at each."""

from collections.abc import Mapping, Sequence

import numpy as np

from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.scaling.runs import Array
from equipoise.scaling.schedule import Schedule, known_length, mixture
from equipoise.scaling.static import Static

CARD = Card(
    name="Stages",
    shape="schedule",
    summary="Large sources first, then the mixture with the small ones, with a new optimizer.",
    formula="p(t) = p_k in stage k, which has the share s_k of the steps",
    title="Order Matters in the Presence of Dataset Imbalance for Multilingual Learning",
    authors=(
        "Dami Choi",
        "Derrick Xin",
        "Hamid Dadkhahi",
        "Justin Gilmer",
        "Ankush Garg",
        "Orhan Firat",
        "Chih-Kuan Yeh",
        "Andrew M. Dai",
        "Behrooz Ghorbani",
    ),
    venue="NeurIPS",
    year=2023,
    arxiv="2312.06134",
    single="ratio 1",
    cost="nothing",
    use="a source that has few examples and would be learned by heart beside a large one",
    avoid="sources of like sizes: a static mixture is as good there",
    status="main",
    evidence="order_matters",
)

Part = Mapping[str, float] | Schedule | str


class Stages(Schedule):
    """Schedules one after the other, each for its share of the steps.

    parts: (share, what) in order; what is a mixture {name: ratio}, the name of one objective, or a schedule.
    Shares are divided by their sum. restart_optimizer: whether `begins_anew` is true at the first step of
    every stage but the first, as in the paper, whose learning rate starts anew too.

    Raises ValueError for shares that are not above 0, stages of schedules with other names, and without a
    number of steps.

    Source: Choi et al. 2023, section 3.

    >>> order = Stages([(0.8, "en"), (0.2, {"en": 0.5, "gu": 0.5})])
    >>> order.ratios(7, 10).tolist(), order.ratios(8, 10).tolist(), order.begins_anew(8, 10)
    ([1.0, 0.0], [0.5, 0.5], True)
    """

    def __init__(self, parts: Sequence[tuple[float, Part]], *, restart_optimizer: bool = True) -> None:
        if not parts:
            raise ValueError("there are no stages")
        check_positive(**{f"the share of stage {place}": share for place, (share, _) in enumerate(parts)})
        super().__init__(tuple(dict.fromkeys(name for _, part in parts for name in _names(part))))
        self.parts = tuple(self._schedule(part) for _, part in parts)
        self.ends = np.cumsum([share for share, _ in parts]) / sum(share for share, _ in parts)
        self.restart_optimizer = restart_optimizer

    def ratios(self, step: int, steps: int | None = None) -> Array:
        place, first, end = self._stage(step, steps)
        part = self.parts[place]
        found = part.ratios(step - first, end - first)
        if part.names == self.names:
            return found
        return mixture(self.names, dict(zip(part.names, found.tolist(), strict=True)))

    def begins_anew(self, step: int, steps: int | None = None) -> bool:
        place, first, _ = self._stage(step, steps)
        return self.restart_optimizer and place > 0 and step == first

    def state_dict(self):
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state):
        for part, held in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(held)

    def _stage(self, step: int, steps: int | None) -> tuple[int, int, int]:
        """The stage of a step, its first step and the one after its last."""
        length = known_length(self, steps)
        ends = [0, *np.rint(self.ends * length).astype(int).tolist()]
        place = next((k for k in range(len(self.parts)) if step < ends[k + 1]), len(self.parts) - 1)
        return place, ends[place], ends[place + 1]

    def _schedule(self, part: Part) -> Schedule:
        if isinstance(part, Schedule):
            return part
        given = {part: 1.0} if isinstance(part, str) else part
        p = mixture(self.names, given)
        return Static(dict(zip(self.names, p.tolist(), strict=True)))


def _names(part: Part) -> tuple[str, ...]:
    if isinstance(part, Schedule):
        return part.names
    return (part,) if isinstance(part, str) else tuple(part)
