"""ObjectiveSampler: a schedule made into examples, or into weights, one step after the other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, Literal

import numpy as np

from equipoise.core.checks import check_count
from equipoise.core.errors import check_choice
from equipoise.scaling.samplerhealth import Course, Health
from equipoise.scaling.schedule import Schedule

Mode = Literal["sample", "weight"]
Rounding = Literal["low-discrepancy", "multinomial"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one step trains on.

    counts: {name: examples}, those with none left out. weights: what the loss of each of these counts, 1 for
    a mean over the batch as it is. p: the ratios that the schedule asked for. restart: whether the optimizer
    is to be made anew first.
    """

    step: int
    counts: Mapping[str, int]
    weights: Mapping[str, float]
    p: Mapping[str, float]
    restart: bool = False

    @property
    def objective(self) -> str:
        """The objective with most examples: the only one where a batch is 1."""
        return max(self.counts, key=self.counts.__getitem__)


class ObjectiveSampler(Iterator[Turn]):
    """Says, step by step, how many examples of each objective to take and what their losses count.

    schedule: the ratios. batch: examples of a step; 1 trains on one objective at a time. steps: how many
    there are in all, after which the iteration ends; a schedule of stages or annealing needs it.

    mode: "sample" takes examples in the ratios p, at weight 1 (times the schedule's factors); "weight" takes
    as many of each and lets losses count m p_i, as DoReMi does. With equal ratios both are the same.

    rounding: "low-discrepancy" keeps what was dealt within one example of the sum of the ratios at the end of
    every step, for ratios that stay (with batch 1 the schedule of Tijdeman, The chairman assignment problem,
    1980); "multinomial" draws independently with `seed`, which adds noise of its own.

    State for an exact resume, the schedule's included, is in `state_dict`: plain numbers, lists and strings.
    `average` has the mean of the ratios so far, `health` says what has become of them.

    Raises ValueError for a batch or steps that are no whole number of 1 or more, a mode or rounding that
    there is not, and a schedule that needs `steps`.

    >>> from equipoise.scaling import Static
    >>> sampler = ObjectiveSampler(Static({"en": 3, "tr": 1}), steps=5)
    >>> [turn.objective for turn in sampler]
    ['en', 'en', 'tr', 'en', 'en']
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        batch: int = 1,
        steps: int | None = None,
        mode: Mode = "sample",
        rounding: Rounding = "low-discrepancy",
        seed: int = 0,
    ) -> None:
        check_count(1, batch=batch, steps=steps)
        check_choice("mode", mode, ("sample", "weight"))
        check_choice("rounding", rounding, ("low-discrepancy", "multinomial"))
        self.schedule, self.batch, self.steps = schedule, batch, steps
        self.mode, self.rounding = mode, rounding
        self.step = 0
        self._credit = [0.0] * len(schedule.names)
        self._draws = np.random.default_rng(seed)
        self._course = Course(schedule.names)
        schedule.ratios(0, steps)

    @property
    def names(self) -> tuple[str, ...]:
        """The objectives."""
        return self.schedule.names

    @property
    def average(self) -> dict[str, float]:
        """The mean of the ratios over the steps so far; those of the first step before it."""
        found = self._course.average if self.step else self.schedule.ratios(0, self.steps)
        return dict(zip(self.names, found.tolist(), strict=True))

    def health(self) -> Health:
        """How even the ratios were, whether their mean has settled, and who was never seen."""
        return self._course.health()

    def __next__(self) -> Turn:
        if self.steps is not None and self.step >= self.steps:
            raise StopIteration
        p = self.schedule.ratios(self.step, self.steps)
        shares = p.tolist()
        if self.mode == "sample":
            wanted, factors = shares, self.schedule.factors(p).tolist()
        else:
            wanted, factors = [1 / len(shares)] * len(shares), [len(shares) * share for share in shares]
        if self.rounding == "multinomial":
            counts = self._draws.multinomial(self.batch, wanted).tolist()
        else:
            counts = self._dealt(wanted)
        turn = Turn(
            self.step,
            {name: n for name, n in zip(self.names, counts, strict=True) if n},
            {name: w for name, w, n in zip(self.names, factors, counts, strict=True) if n},
            dict(zip(self.names, shares, strict=True)),
            self.schedule.begins_anew(self.step, self.steps),
        )
        self._course.note(shares, counts)
        self.step += 1
        return turn

    def _dealt(self, p: list[float]) -> list[int]:
        """Whole numbers that sum to the batch, so that nobody is ahead or behind by one or more.

        Whoever would else be behind by one gets theirs first; each of the rest goes to whom, of those who
        have some due, would be behind the soonest. In plain numbers: for a few objectives arrays take longer.
        """
        credit, least = self._credit, 1 / max(2 * len(p) - 2, 1)
        counts, left = [0] * len(p), self.batch
        for place, share in enumerate(p):
            due = credit[place] + self.batch * share
            sure = max(int(due - 1 + least), 0)
            counts[place], credit[place] = sure, due - sure
            left -= sure
        waiting = [
            ((1 - least - due) / share, place)
            for place, (due, share) in enumerate(zip(credit, p, strict=True))
            if due >= least and share > 0
        ]
        heapify(waiting)
        for _ in range(left):
            place = heappop(waiting)[1] if waiting else credit.index(max(credit))
            counts[place] += 1
            credit[place] -= 1
            if credit[place] >= least and p[place] > 0:
                heappush(waiting, ((1 - least - credit[place]) / p[place], place))
        return counts

    def state_dict(self) -> dict[str, Any]:
        """Where it is, as plain values."""
        return {
            "names": list(self.names),
            "step": self.step,
            "credit": list(self._credit),
            "draws": self._draws.bit_generator.state,
            "course": self._course.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; raises ValueError for the state of a sampler over other objectives."""
        if tuple(state["names"]) != self.names:
            raise ValueError(f"the state is of {', '.join(state['names'])}, not of {', '.join(self.names)}")
        self.step = int(state["step"])
        self._credit = [float(due) for due in state["credit"]]
        self._draws.bit_generator.state = state["draws"]
        self._course.load_state_dict(state["course"])
        self.schedule.load_state_dict(state["schedule"])
