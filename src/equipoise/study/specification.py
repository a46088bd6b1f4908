"""Specification: everything that defines a study, and nothing that only changes how it is run."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from equipoise.core.indicators import MOST_OBJECTIVES
from equipoise.core.problem import Metric, Problem
from equipoise.study.landscapes import find
from equipoise.study.preferences import preferences as spread
from equipoise.study.roster import choose, choose_solvers, rule_cards

Plain = bool | int | float | str
Option = Plain | tuple[Plain, ...]


class MetricSpecification(BaseModel):
    """A metric's name and which way is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    better: Literal["higher", "lower"]


class Specification(BaseModel):
    """What a study trains: two equal specifications give the same trials and the same metrics.

    `problem` is a built-in name or the path of a user's file, whose content `sha256` fixes. The first
    of `preferences` is the uniform one. All is resolved: no field depends on a default elsewhere.
    Where `steps` is given a trial ends after that many, whatever `epochs` says. `judged` is the split that
    results are reported on; where it is "validation", test data are never looked at. Where `solvers` are
    given the study traces fronts and has no rules; each spends `budget` gradients (None: eleven trainings).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    problem: str
    sha256: str | None = None
    objectives: tuple[str, ...]
    rules: tuple[str, ...]
    preferences: tuple[tuple[float, ...], ...]
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    epochs: int
    steps: int | None = None
    judged: Literal["test", "validation"] = "test"
    solvers: tuple[str, ...] = ()
    budget: int | None = None
    points: int | None = None
    private: Literal["own", "weighted"]
    options: dict[str, Option] = {}
    metrics: dict[str, MetricSpecification]

    def build_problem(self) -> Problem:
        """The problem, not yet prepared. Raises ValueError where the user's file has changed."""
        if self.sha256 is not None and file_hash(Path(self.problem)) != self.sha256:
            raise ValueError(f"{self.problem} has changed since this study was specified")
        return find(self.problem, self.options, bool(self.solvers))

    def metric_objects(self) -> dict[str, Metric]:
        """The metrics as the core knows them."""
        return {name: Metric(m.name, m.better) for name, m in self.metrics.items()}

    def to_toml(self) -> str:
        """The specification as TOML."""
        flat = self.model_dump(mode="json", exclude_none=True)
        tables = {key: flat.pop(key) for key in ("options", "metrics")}
        lines = [f"{key} = {_toml(value)}" for key, value in flat.items()]
        lines += ["", "[options]", *(f"{_toml(key)} = {_toml(v)}" for key, v in tables["options"].items())]
        for objective, metric in tables["metrics"].items():
            lines += ["", f"[metrics.{_toml(objective)}]", *(f"{k} = {_toml(v)}" for k, v in metric.items())]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, text: str) -> "Specification":
        """Read what `to_toml` wrote; raises ValueError where it is none."""
        return cls.model_validate(tomllib.loads(text))


def specify(
    problem: str,
    *,
    rules: str | Sequence[str] = "all",
    preferences: int = 1,
    seeds: int = 5,
    epochs: int | None = None,
    steps: int | None = None,
    judged: Literal["test", "validation"] = "test",
    solvers: str | Sequence[str] = (),
    budget: int | None = None,
    points: int | None = None,
    learning_rates: Sequence[float] | None = None,
    private: Literal["own", "weighted"] = "own",
    options: Mapping[str, Any] | None = None,
) -> Specification:
    """Resolve what a user asked for; epochs and learning rates come from the problem where not given.

    Raises ValueError for what cannot be run, before anything is trained.
    """
    path = Path(problem).resolve() if problem.endswith(".py") else None
    tracers = choose_solvers(solvers)
    found = find(str(path or problem), options or {}, bool(tracers))
    if learning_rates is not None and not len(learning_rates):
        raise ValueError("learning rates are empty; a study needs at least 1")
    grid = found.learning_rates if learning_rates is None else learning_rates
    rates = tuple(dict.fromkeys(map(float, grid)))
    epochs = found.epochs if epochs is None else epochs
    for what, count in (
        ("seeds", seeds),
        ("epochs", epochs),
        ("preferences", preferences),
        ("steps", 1 if steps is None else steps),
        ("budget", 1 if budget is None else budget),
        ("points", 1 if points is None else points),
    ):
        if count < 1:
            raise ValueError(f"{what} is {count}; a study needs at least 1")
    if any(not 0 < rate < float("inf") for rate in rates):
        raise ValueError(f"learning rates {rates} must be positive and finite")
    chosen = () if tracers else choose(rules)
    if tracers and len(found.objectives) > MOST_OBJECTIVES:
        raise ValueError(
            f"fronts are compared by their volume, which takes too long beyond {MOST_OBJECTIVES} objectives; "
            f"{problem} has {len(found.objectives)}"
        )
    rows = [name for name in chosen if rule_cards()[name].shape == "row"]
    if private == "weighted" and rows:
        raise ValueError(f'private="weighted" needs weights, and {", ".join(rows)} has none; leave it out')
    return Specification(
        problem=str(path or problem),
        sha256=None if path is None else file_hash(path),
        objectives=tuple(found.objectives),
        rules=chosen,
        preferences=spread(len(found.objectives), preferences),
        learning_rates=rates,
        seeds=tuple(range(seeds)),
        epochs=epochs,
        steps=steps,
        judged=judged,
        solvers=tracers,
        budget=budget,
        points=points,
        private=private,
        options=_plain_fields(found),
        metrics={
            o: {"name": found.metrics[o].name, "better": found.metrics[o].better} for o in found.objectives
        },  # type: ignore[dict-item]
    )


def differences(there: Specification, asked: Specification) -> list[str]:
    """In words, each field in which the specification of a folder departs from the one asked for."""
    words = []
    files = there.sha256 is not None and asked.sha256 is not None
    for field in Specification.model_fields:
        old, new = getattr(there, field), getattr(asked, field)
        if old == new or (field == "problem" and files):
            continue
        if field == "sha256":
            if files:
                words.append(f"the content of {asked.problem} has changed")
        elif isinstance(old, dict):
            keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            words += [
                f"{field}.{key} is {_say(old.get(key))} there, {_say(new.get(key))} asked" for key in keys
            ]
        elif field == "rules":
            lacks = [name for name in new if name not in old]
            extra = [name for name in old if name not in new]
            words += [f"rules lack {', '.join(lacks)} there"] if lacks else []
            words += [f"rules hold {', '.join(extra)} there, not asked"] if extra else []
        else:
            words.append(f"{field.replace('_', ' ')} is {_say(old)} there, {_say(new)} asked")
    return words


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    return sha256(path.read_bytes()).hexdigest()


def _plain_fields(problem: Problem) -> dict[str, Option]:
    """The fields of a problem that TOML can hold; None is left to the problem's default."""
    plain: dict[str, Option] = {}
    for field in fields(problem) if is_dataclass(problem) else ():
        value = getattr(problem, field.name)
        if isinstance(value, Path):
            value = str(value)
        if isinstance(value, list | tuple) and all(isinstance(v, Plain) for v in value):
            value = tuple(value)
        if field.init and isinstance(value, bool | int | float | str | tuple):
            plain[field.name] = value
    return plain


def _say(value: object) -> str:
    if isinstance(value, MetricSpecification):
        return f"{value.name} ({value.better} is better)"
    if isinstance(value, tuple) and value and not isinstance(value[0], tuple):
        return ", ".join(map(str, value))
    return "absent" if value is None else str(value)


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case _:
            return repr(value)
