"""Store: the run folder, which is the truth about a study.

    study.toml                    the specification
    environment.json              machine, versions, the command
    trials/<name>/metrics.jsonl   the trial, its measures, its outcome or why it failed
                  timing.json     what depends on the run
                  final.safetensors, or front.safetensors where the trial traced a front
                  error.txt       the traceback of a failed trial
                  done            empty, written last: without it the folder counts for nothing
    steptimes.json, report.html

Every file is written atomically. `metrics.jsonl` is the same, byte for byte, whenever and wherever the
trial is trained.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from equipoise.core.atomic import sync_folder, write
from equipoise.core.front import Front
from equipoise.study.finite import finite
from equipoise.study.results import Measure, Outcome, Run, StepTime, Trial, TrialResult
from equipoise.study.specification import Specification, differences
from equipoise.study.trials import plan

FRONT = "front.safetensors"


class OtherStudy(ValueError):
    """The folder was made from another specification."""


class Damaged(ValueError):
    """A file of the run folder does not hold what was written into it; the message names it."""


@dataclass(frozen=True, slots=True)
class Record:
    """A trial that ended, as bytes for its folder; `failed` is the reason, None where it succeeded."""

    trial: Trial
    failed: str | None
    metrics: bytes
    timing: Mapping[str, Any]
    weights: bytes | None = None
    error: str | None = None
    front: bytes | None = None


class Store:
    """One run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.trials = self.folder / "trials"

    def open_for(self, specification: Specification) -> None:
        """Write the specification into a new folder, or see that the one there is the same.

        Where no trial has ended yet, another specification takes the place of the one there. Else
        raises OtherStudy naming the differences; Damaged where study.toml cannot be read.
        """
        path = self.folder / "study.toml"
        if path.exists():
            apart = differences(self.specification(), specification)
            if apart and any(self.trials.glob("*/done")):
                raise OtherStudy(
                    f"{self.folder} holds another study: {'; '.join(apart)}. "
                    f"Ask for the same, or choose another folder with --out"
                )
            if apart:
                (self.folder / "environment.json").unlink(missing_ok=True)
                write(path, specification.to_toml())
        else:
            write(path, specification.to_toml())
        self.trials.mkdir(exist_ok=True)
        for stray in self.folder.glob(".*.part"):
            stray.unlink(missing_ok=True)

    def specification(self) -> Specification:
        """The specification in the folder; raises ValueError where there is none, Damaged
        where it cannot be read."""
        path = self.folder / "study.toml"
        if not path.is_file():
            raise ValueError(
                f"{self.folder} is no run folder: it has no study.toml; `equipoise run` makes one"
            )
        with _reading(path, "; without it nothing here can be read: choose another folder"):
            return Specification.from_toml(path.read_text(encoding="utf-8"))

    def trial_folder(self, trial: Trial) -> Path:
        """Where a trial lies: its name, with what a file name cannot hold escaped, cut where too long."""
        name = quote(trial.name, safe="+, ()=")
        if len(name) > 200:
            name = f"{name[:180]}-{sha256(trial.name.encode()).hexdigest()[:16]}"
        return self.trials / name

    def is_done(self, trial: Trial) -> bool:
        """Whether the trial ended, well or badly."""
        return (self.trial_folder(trial) / "done").exists()

    def write(self, record: Record) -> None:
        """Keep a trial that ended; what an interrupted attempt left is removed first."""
        folder = self.trial_folder(record.trial)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        write(folder / "metrics.jsonl", record.metrics)
        write(folder / "timing.json", json.dumps(record.timing) + "\n")
        if record.weights is not None:
            write(folder / "final.safetensors", record.weights)
        if record.front is not None:
            write(folder / FRONT, record.front)
        if record.error is not None:
            write(folder / "error.txt", record.error)
        write(folder / "done", b"")
        sync_folder(self.trials)

    def read(self, trial: Trial) -> TrialResult:
        """The result of a trial that is done."""
        return _read(self.trial_folder(trial))

    def read_front(self, trial: Trial, *, solutions: bool = True) -> Front:
        """The front that a trial traced, without the solutions where these are not wanted."""
        folder = self.trial_folder(trial)
        with _reading(folder / FRONT, f"; delete {folder} to have it traced anew"):
            return Front.load(folder / FRONT, solutions=solutions)

    def results(self) -> tuple[TrialResult, ...]:
        """Every trial that is done, references first, then by seed, rule, preference, learning rate."""
        found = [_read(path.parent) for path in self.trials.glob("*/done")]
        return tuple(sorted(found, key=lambda result: _order(result.trial)))

    def write_json(self, name: str, content: object) -> None:
        """Write a JSON file into the folder."""
        write(self.folder / name, json.dumps(content, indent=2, default=str) + "\n")

    def read_json(self, name: str) -> Any:
        """The content of a JSON file in the folder; an empty object where it is absent."""
        path = self.folder / name
        with _reading(path):
            return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def load_run(folder: str | Path, *, only: Iterable[Trial] | None = None) -> Run:
    """Everything a run folder holds, finished or not; of the trials, `only` these where they are given.

    Raises ValueError where it is no run folder, and Damaged, naming the file, where one cannot be read.
    """
    store = Store(Path(folder))
    specification = store.specification()
    environment = store.read_json("environment.json")
    with _reading(store.folder / "steptimes.json"):
        times = {rule: StepTime(**found) for rule, found in store.read_json("steptimes.json").items()}
    return Run(
        folder=store.folder,
        problem=specification.problem,
        objectives=specification.objectives,
        metrics=specification.metric_objects(),
        rules=specification.rules,
        learning_rates=specification.learning_rates,
        seeds=specification.seeds,
        preferences=specification.preferences,
        trials=store.results() if only is None else tuple(map(store.read, only)),
        planned=plan(specification).planned,
        step_times=times,
        environment=environment,
        command=environment.get("command", ""),
        judged=specification.judged,
    )


def metrics_file(
    trial: Trial,
    measures: Iterable[Measure],
    steps: int,
    outcome: Outcome | None = None,
    variants: Mapping[str, Outcome] | None = None,
    failed: str | None = None,
) -> bytes:
    """The lines of `metrics.jsonl`: the trial, each measure, and how it ended."""
    lines: list[dict[str, Any]] = [asdict(trial), *(asdict(measure) for measure in measures)]
    if outcome is None:
        lines.append({"steps": steps, "failed": failed})
    else:
        others = {name: asdict(variant) for name, variant in (variants or {}).items()}
        lines.append({"steps": steps, "outcome": asdict(outcome), "variants": others})
    return "".join(json.dumps(finite(line), allow_nan=False) + "\n" for line in lines).encode()


@contextmanager
def _reading(path: Path, remedy: str = "") -> Iterator[None]:
    """Raise Damaged, naming the file, for whatever its content is not."""
    try:
        yield
    except Damaged:
        raise
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        words = " ".join(str(error).split())
        raise Damaged(f"{path} is damaged{remedy} ({type(error).__name__}: {words})") from error


def _read(folder: Path) -> TrialResult:
    remedy = f"; delete {folder} to have the trial trained anew"
    with _reading(folder / "timing.json", remedy):
        seconds = float(json.loads((folder / "timing.json").read_text(encoding="utf-8"))["seconds"])
    with _reading(folder / "metrics.jsonl", remedy):
        return _result((folder / "metrics.jsonl").read_text(encoding="utf-8"), seconds)


def _result(text: str, seconds: float) -> TrialResult:
    """What `metrics_file` wrote."""
    first, *looks, last = map(json.loads, text.splitlines())
    weights = first.pop("weights")
    for look in looks:
        if look["cosines"] is not None:
            look["cosines"] = tuple(map(tuple, look["cosines"]))
    return TrialResult(
        trial=Trial(**first, weights=None if weights is None else tuple(weights)),
        failed=last.get("failed"),
        outcome=Outcome(**last["outcome"]) if "outcome" in last else None,
        variants={name: Outcome(**variant) for name, variant in last.get("variants", {}).items()},
        measures=tuple(Measure(**look) for look in looks),
        seconds=seconds,
        steps=last["steps"],
    )


def _order(trial: Trial) -> tuple[object, ...]:
    return (
        ("single", "fixed", "rule", "front").index(trial.kind),
        trial.seed,
        trial.rule,
        trial.weights or (),
        trial.learning_rate,
    )
