"""The runner: brings a run folder to the state that its specification describes."""

from collections import deque
from contextlib import closing
from pathlib import Path
from typing import Literal

from equipoise.study.engine import Broken, Ended, Engine, Epoch
from equipoise.study.environment import environment, usable_cpus
from equipoise.study.lock import locked
from equipoise.study.progress import Quiet, Talk, progress
from equipoise.study.results import Run, Trial
from equipoise.study.roster import YARDSTICK
from equipoise.study.scoring import choices
from equipoise.study.specification import Specification
from equipoise.study.store import Store, load_run
from equipoise.study.trials import fixed_trials, plan
from equipoise.study.workers import Workers

EngineName = Literal["local", "ray"]
STEP_SECONDS = 0.5
"""Seconds spent on each rule's time per step."""


def run_study(
    specification: Specification,
    folder: str | Path,
    *,
    workers: int | None = None,
    engine: EngineName = "local",
    address: str | None = None,
    command: str = "",
    talk: Talk = "auto",
    step_seconds: float = STEP_SECONDS,
) -> Run:
    """Train every trial that the folder lacks, then measure the time per step of each rule.

    Killed at any moment and called again, it repeats nothing that is done. `workers` is the number of
    trials at a time (default: the CPUs at hand; for a cluster at an `address`, all of its); it does
    not change the metrics, nor does `engine`. `command` is kept for the report.

    Raises OtherStudy where the folder holds another specification, FolderBusy where another run is at
    work in it, Broken where the problem cannot be prepared for its trials, and ImportError for "ray"
    without Ray.
    """
    folder = Path(folder)
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1")
    if folder.exists() and not (folder / "study.toml").exists() and _holds_something(folder):
        raise ValueError(f"{folder} is not empty and no run folder; choose another with --out")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as lock:
        store = Store(folder)
        store.open_for(specification)
        schedule = _Schedule(specification, store)
        timed = not specification.rules or (folder / "steptimes.json").exists()
        if schedule.complete and timed:
            return load_run(folder)
        slots = workers if workers is not None or address is not None else usable_cpus()
        with (
            progress(talk) as speak,
            closing(_engine(engine, specification, store, slots, address, lock)) as at,
        ):
            _note_environment(store, environment(command, engine, at.slots), speak)
            speak.begin(schedule.planned, schedule.done)
            _train(schedule, at, speak, specification.epochs)
            if not timed:
                speak.say("measuring the time per step of each rule")
                _time_steps(store, at, step_seconds, specification.rules, speak)
    return load_run(folder)


class _Schedule:
    """The trials still to train, in order. The fixed weightings join once Mean's trials have ended."""

    def __init__(self, specification: Specification, store: Store) -> None:
        self.specification = specification
        self.store = store
        named = plan(specification)
        self.planned = named.planned
        self._first = named.first
        self._awaited = {trial for trial in named.first if not store.is_done(trial)}
        self.todo = deque(t for t in (*named.first, *named.rest) if not store.is_done(t))
        self._fixed: tuple[Trial, ...] = ()
        self._named_fixed = False
        self._name_fixed()
        unnamed = self.planned - len(named.first) - len(named.rest) - len(self._fixed)
        left = len(self.todo) + unnamed
        self.done = self.planned - left

    @property
    def complete(self) -> bool:
        """Whether every trial of the study has been handed out."""
        return self._named_fixed and not self.todo

    def ended(self, trial: Trial) -> None:
        """Take note of a trial that lies in the folder."""
        self._awaited.discard(trial)
        self._name_fixed()

    def _name_fixed(self) -> None:
        if self._named_fixed or self._awaited:
            return
        fixed = fixed_trials(self.specification, self._rate_of_mean()) if self.specification.rules else ()
        self._fixed, self._named_fixed = fixed, True
        missing = (trial for trial in fixed if not self.store.is_done(trial))
        self.todo = deque(sorted((*missing, *self.todo), key=lambda trial: trial.seed))

    def _rate_of_mean(self) -> float:
        """Mean's learning rate by validation; from its trials and the references alone, so that it does
        not depend on which other trials have ended."""
        run = load_run(self.store.folder, only=self._first)
        return choices(run)["rule", YARDSTICK, None].learning_rate


def _train(schedule: _Schedule, engine: Engine, speak: Quiet, epochs: int) -> None:
    under_way = 0
    while under_way or not schedule.complete:
        while schedule.todo and under_way < engine.slots:
            trial = schedule.todo.popleft()
            engine.submit(trial)
            under_way += 1
            speak.started(trial, epochs)
        match engine.next():
            case Epoch() as event:
                speak.epoch(event)
            case Ended() as event:
                under_way -= 1
                speak.ended(event)
                schedule.ended(event.trial)


def _time_steps(store: Store, engine: Engine, seconds: float, rules: tuple[str, ...], speak: Quiet) -> None:
    """Write the time per step of each rule; a study whose trials have ended is finished without them."""
    try:
        times = engine.step_times(seconds * len(rules))
    except Broken as error:
        speak.say(f"no time per step was measured: {error}")
        return
    store.write_json("steptimes.json", times)
    if lacking := [rule for rule in rules if rule not in times]:
        speak.say(f"no time per step could be measured for {', '.join(lacking)}")


def _engine(
    name: EngineName,
    specification: Specification,
    store: Store,
    slots: int | None,
    address: str | None,
    lock: int,
) -> Engine:
    if name == "ray":
        from equipoise.study.ray import RayCluster

        return RayCluster(specification, store, slots, address)
    if address is not None:
        raise ValueError(f'the address {address!r} is for engine "ray"; the local engine takes none')
    return Workers(specification, store, slots or usable_cpus(), lock)


def _note_environment(store: Store, now: dict[str, object], speak: Quiet) -> None:
    """Keep the first environment; say where a resumed run has other versions."""
    before = store.read_json("environment.json")
    if not before:
        store.write_json("environment.json", now)
        return
    for package in ("equipoise", "torch", "python", "processor"):
        if before.get(package) != now[package]:
            speak.say(f"{package} was {before.get(package)} when this run began and is {now[package]} now")


def _holds_something(folder: Path) -> bool:
    return not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())
