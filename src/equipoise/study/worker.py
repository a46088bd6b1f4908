"""A worker process: trains the trials that its parent names, one after the other.

It reads JSON lines from standard input and answers in JSON lines on what was standard output; what
the user's code prints goes to standard error. When the input ends, the parent is gone or wants no more,
and the process ends at once.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TextIO

_PR_SET_PDEATHSIG = 1


def main(parent: int) -> None:
    """Serve until the input ends; `parent` is the process whose death ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    tasks: SimpleQueue[dict[str, Any]] = SimpleQueue()
    Thread(target=_listen, args=(sys.stdin, tasks), daemon=True).start()

    def answer(**message: object) -> None:
        try:
            answers.write(json.dumps(message) + "\n")
        except BrokenPipeError:
            os._exit(1)

    _serve(tasks, answer)


def _serve(tasks: "SimpleQueue[dict[str, Any]]", answer: Callable[..., None]) -> None:
    import torch

    from equipoise.problems.data import MissingData
    from equipoise.study.results import Trial
    from equipoise.study.specification import Specification
    from equipoise.study.steptimes import step_times
    from equipoise.study.store import Store
    from equipoise.study.training import Trainer

    torch.set_num_threads(1)
    first = tasks.get()
    store = Store(Path(first["folder"]))
    try:
        trainer = Trainer(Specification.model_validate(first["specification"]))
    except Exception as error:
        words = str(error) if isinstance(error, MissingData) else f"{type(error).__name__}: {error}"
        answer(broken=words)
        return
    answer(ready=True)
    while True:
        match tasks.get():
            case {"trial": trial}:
                weights = trial.pop("weights")
                named = Trial(**trial, weights=None if weights is None else tuple(weights))
                record = trainer.run(named, on_epoch=lambda epoch: answer(epoch=epoch))
                store.write(record)
                answer(ended=record.failed, seconds=record.timing["seconds"])
            case {"step_times": seconds}:
                found = step_times(trainer, seconds, lambda name, times: answer(timed=name, times=times))
                answer(step_times=found)


def _listen(tasks_in: TextIO, tasks: "SimpleQueue[dict[str, Any]]") -> None:
    for line in tasks_in:
        tasks.put(json.loads(line))
    os._exit(0)


def _die_with(parent: int) -> None:
    """Ask the system to end this process when its parent dies (Linux); elsewhere the input's end does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.name == "posix" and os.getppid() != parent:
        os._exit(1)
