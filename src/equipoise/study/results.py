"""What a run folder holds, as objects: the store reads them, the analysis and the report use them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from equipoise.core.problem import Metric


@dataclass(frozen=True, slots=True)
class Trial:
    """One training run: a rule (or a single-task or fixed-weights reference), a preference, a
    learning rate and a seed.

    `kind` "rule": `rule` is a rule's name, `weights` its preference or None.
    `kind` "single": `rule` is the one objective trained. `kind` "fixed": `weights` are the fixed
    weights and `rule` is "Linear".
    """

    kind: Literal["rule", "single", "fixed", "front"]
    rule: str
    learning_rate: float
    seed: int
    weights: tuple[float, ...] | None = None

    @property
    def name(self) -> str:
        """The name of the trial's folder."""
        weights = "" if self.weights is None else "-w" + "_".join(map(_exact, self.weights))
        return f"{self.kind}-{self.rule}{weights}-lr{_exact(self.learning_rate)}-s{self.seed}"


def _exact(number: float) -> str:
    """The number in as few digits as tell it apart from every other."""
    short = f"{number:g}"
    return short if float(short) == number else repr(float(number))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The metric of each objective of one solution on validation data and on those that results are reported
    on, `Run.judged`: test data, unless the study leaves them alone."""

    validation: Mapping[str, float]
    test: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Measure:
    """A look during training: batch losses, the rule's weights, the directions' conflict."""

    step: int
    epoch: int
    losses: Mapping[str, float]
    weights: Mapping[str, float] | None
    share: float | None  # of conflicting pairs
    norm_ratio: float | None
    cosines: tuple[tuple[float, ...], ...] | None


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A trial that ended. `failed` is the reason, None where it succeeded; `outcome` is then set.

    `variants` are further solutions of the same training, such as "last" and "uniform" beside an
    adaptive average; `seconds` is the wall time of training.
    """

    trial: Trial
    failed: str | None
    outcome: Outcome | None
    variants: Mapping[str, Outcome] = field(default_factory=dict)
    measures: tuple[Measure, ...] = ()
    seconds: float = 0.0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class StepTime:
    """Time per step relative to Mean, measured alone and in alternation: median and quartiles."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Run:
    """Everything a run folder holds."""

    folder: Path
    problem: str
    objectives: tuple[str, ...]
    metrics: Mapping[str, Metric]
    rules: tuple[str, ...]
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    preferences: tuple[tuple[float, ...], ...]
    trials: tuple[TrialResult, ...]
    planned: int  # number of trials in the specification, finished or not
    step_times: Mapping[str, StepTime]
    environment: Mapping[str, Any]
    command: str
    judged: Literal["test", "validation"] = "test"
