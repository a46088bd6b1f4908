"""Evaluations: how a model fares on every task while it learns them one after the other."""

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from equipoise.core.errors import unknown

Point = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Gap:
    """What a task switch did to one task learned before.

    `before` is its accuracy at the switch, `lowest` the least in the phase after it, at step `at`; `depth` is
    before - lowest. `recovered` is the number of steps from the switch until the accuracy, once it had been
    lowest, came back within the tolerance of `before`; None where it did not in that phase. `end` is the
    accuracy at the end of the phase, which is all that evaluation after each task would show.
    """

    task: str
    learning: str
    switch: int
    before: float
    lowest: float
    at: int
    end: float
    recovered: int | None

    @property
    def depth(self) -> float:
        return self.before - self.lowest


class Evaluations:
    """A stream of accuracies (step, task, accuracy) and what it says of forgetting, worst cases included.

    `phases` lists the tasks in the order of their learning, each with the step at which its phase ended; the
    phase of task k is (t_{k-1}, t_k], t_0 = 0. A step is the number of updates made before the evaluation, so
    step 0 is the model as it was given. All figures hold at the end of phase k (the last one by default), and
    use no later evaluation. A is the accuracy, E_i the evaluation data of task i, f_n the model at step n.

    Use it to see what evaluation after each task hides: a drop right after a switch that is gone at its end.
    With one evaluation a phase, min-ACC is what ACC would be.

    Raises ValueError, naming the task, for phases that do not follow each other, an unknown task, an accuracy
    that is not finite, an evaluation that is there twice, and a figure whose evaluations are missing.

    Source: De Lange, van de Ven and Tuytelaars 2023 (arXiv 2205.13452), the metrics of continual evaluation,
    windows as in the authors' code; gaps and recovery are ours.

    >>> stream = Evaluations([("a", 2), ("b", 4)])
    >>> for step, a, b in [(1, 0.5, 0.0), (2, 0.9, 0.0), (3, 0.3, 0.8), (4, 0.8, 1.0)]:
    ...     stream.add(step, {"a": a, "b": b})
    >>> stream.acc(), stream.min_acc(), stream.wc_acc()
    (0.9, 0.3, 0.65)
    """

    def __init__(self, phases: Iterable[tuple[str, int]]) -> None:
        self.phases: tuple[tuple[str, int], ...] = tuple((str(task), int(end)) for task, end in phases)
        self.tasks: tuple[str, ...] = tuple(task for task, _ in self.phases)
        if not self.phases:
            raise ValueError("there are no phases; give (task, last step) for each task in its order")
        start = 0
        for task, end in self.phases:
            if self.tasks.count(task) > 1:
                raise ValueError(f"task {task!r} has {self.tasks.count(task)} phases; it is learned once")
            if end <= start:
                raise ValueError(f"the phase of {task!r} ends at step {end}, but begins after step {start}")
            start = end
        self._points: dict[str, list[Point]] = {task: [] for task in self.tasks}

    def __repr__(self) -> str:
        count = sum(map(len, self._points.values()))
        return f"Evaluations({len(self.tasks)} tasks, {count} evaluations)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Evaluations):
            return NotImplemented
        return self.phases == other.phases and self._points == other._points

    def add(self, step: int, accuracies: Mapping[str, float]) -> None:
        """Note the accuracy of each of some tasks at a step; steps may come in any order."""
        for task, accuracy in accuracies.items():
            if task not in self._points:
                raise ValueError(unknown("task", task, self.tasks))
            if not isfinite(accuracy):
                raise ValueError(f"the accuracy of {task!r} at step {step} is {accuracy}")
            if step < 0 or step > self.phases[-1][1]:
                raise ValueError(f"{task!r} is evaluated at step {step}, outside 0 .. {self.phases[-1][1]}")
            points = self._points[task]
            place = bisect_right(points, step, key=lambda point: point[0])
            if place and points[place - 1][0] == step:
                raise ValueError(f"{task!r} was evaluated at step {step} before")
            points.insert(place, (int(step), float(accuracy)))

    def curve(self, task: str) -> tuple[Point, ...]:
        """(step, accuracy) of one task, by step."""
        if task not in self._points:
            raise ValueError(unknown("task", task, self.tasks))
        return tuple(self._points[task])

    def at(self, task: str, step: int) -> float:
        """A(E_task, f_step); raises ValueError where that evaluation is missing."""
        for found, accuracy in self.curve(task):
            if found == step:
                return accuracy
        raise ValueError(f"{task!r} was not evaluated at step {step}; add that evaluation")

    def acc(self, k: int | None = None) -> float:
        """ACC: the mean over the k tasks learned of A(E_i, f_{t_k})."""
        k, end = self._end(k)
        return _mean([self.at(task, end) for task in self.tasks[:k]])

    def forgetting(self, k: int | None = None) -> float:
        """FORG: the mean over the tasks before the k-th of A(E_i, f_{t_i}) - A(E_i, f_{t_k}); 0 for k = 1."""
        k, end = self._end(k)
        return _mean([self.at(task, learned) - self.at(task, end) for task, learned in self.phases[: k - 1]])

    def min_acc(self, k: int | None = None) -> float:
        """min-ACC: the mean over the tasks before the k-th of the least A(E_i, f_n), t_i < n <= t_k.

        Raises ValueError for k = 1, where no task has been learned before.
        """
        k, end = self._end(k)
        if k == 1:
            raise ValueError(
                f"min-ACC is of tasks learned before the present one; {self.tasks[0]!r} is the first"
            )
        lowest = [min(self._after(task, learned, end)) for task, learned in self.phases[: k - 1]]
        return _mean(lowest)

    def wc_acc(self, k: int | None = None) -> float:
        """WC-ACC: A(E_k, f_{t_k}) / k + (1 - 1/k) min-ACC."""
        k, end = self._end(k)
        present = self.at(self.tasks[k - 1], end)
        return present if k == 1 else present / k + (1 - 1 / k) * self.min_acc(k)

    def windowed_forgetting(self, window: int, k: int | None = None) -> float:
        """WF^window: the mean over the k tasks of the largest fall from one evaluation to a later one.

        Both lie within `window` evaluations in a row, whatever is being learned; 0 for what never falls.
        """
        return self._windowed(window, k, 1.0)

    def windowed_plasticity(self, window: int, k: int | None = None) -> float:
        """WP^window: as `windowed_forgetting`, of the largest rise."""
        return self._windowed(window, k, -1.0)

    def gaps(self, tolerance: float = 0.01) -> tuple[Gap, ...]:
        """The gap of every task learned before, for every switch; back within `tolerance` is recovered."""
        found = []
        for k, (learning, end) in enumerate(self.phases[1:], start=1):
            switch = self.phases[k - 1][1]
            found += [self._gap(task, learning, switch, end, tolerance) for task in self.tasks[:k]]
        return tuple(found)

    def figures(self, windows: Sequence[int] = (10, 100)) -> dict[str, float]:
        """Every figure at the end of the stream by its name; min-ACC is left out for a single task."""
        found = {"ACC": self.acc(), "FORG": self.forgetting(), "WC-ACC": self.wc_acc()}
        if len(self.tasks) > 1:
            found["min-ACC"] = self.min_acc()
        for window in windows:
            found[f"WF{window}"] = self.windowed_forgetting(window)
            found[f"WP{window}"] = self.windowed_plasticity(window)
        return found

    def table(self, windows: Sequence[int] = (10, 100)) -> str:
        """The figures and the gaps as plain text."""
        lines = [f"{name:<9} {value:.3f}" for name, value in self.figures(windows).items()]
        rows: list[tuple[str, ...]] = [
            ("task", "learning", "before", "lowest", "depth", "end", "recovered after")
        ]
        for gap in self.gaps():
            back = "not" if gap.recovered is None else str(gap.recovered)
            numbers = (f"{value:.3f}" for value in (gap.before, gap.lowest, gap.depth, gap.end))
            rows.append((gap.task, gap.learning, *numbers, back))
        if len(rows) > 1:
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            cells = (zip(row, widths, strict=True) for row in rows)
            lines += ["", *("  ".join(text.ljust(width) for text, width in row).rstrip() for row in cells)]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Phases and evaluations as JSON."""
        return json.dumps({"phases": self.phases, "points": self._points}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Evaluations":
        """What `to_json` wrote; raises ValueError for other content."""
        try:
            content = json.loads(text)
            found = cls([(task, end) for task, end in content["phases"]])
            for task, points in content["points"].items():
                for step, accuracy in points:
                    found.add(step, {task: accuracy})
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"not the JSON of evaluations: {error!r}") from error
        return found

    def _end(self, k: int | None) -> tuple[int, int]:
        k = len(self.phases) if k is None else k
        if not 1 <= k <= len(self.phases):
            raise ValueError(f"k is {k}; there are {len(self.phases)} phases, counted from 1")
        return k, self.phases[k - 1][1]

    def _after(self, task: str, start: int, end: int) -> list[float]:
        found = [accuracy for step, accuracy in self.curve(task) if start < step <= end]
        if not found:
            raise ValueError(f"{task!r} was not evaluated in the steps {start + 1} .. {end}")
        return found

    def _windowed(self, window: int, k: int | None, sign: float) -> float:
        if window < 2:
            raise ValueError(f"window is {window}; a change needs at least two evaluations")
        k, end = self._end(k)
        changes = []
        for task in self.tasks[:k]:
            values = [sign * accuracy for step, accuracy in self.curve(task) if step <= end]
            if not values:
                raise ValueError(f"{task!r} was not evaluated up to step {end}")
            pairs = (values[max(0, j - window + 1) : j + 1] for j in range(len(values)))
            changes.append(max(max(part) - part[-1] for part in pairs))
        return _mean(changes)

    def _gap(self, task: str, learning: str, switch: int, end: int, tolerance: float) -> Gap:
        before = self.at(task, switch)
        phase = [point for point in self.curve(task) if switch < point[0] <= end]
        if not phase:
            raise ValueError(f"{task!r} was not evaluated in the steps {switch + 1} .. {end}")
        at, lowest = min(phase, key=lambda point: point[1])
        back = [step for step, accuracy in phase if step >= at and accuracy >= before - tolerance]
        recovered = back[0] - switch if back else None
        return Gap(task, learning, switch, before, lowest, at, phase[-1][1], recovered)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
