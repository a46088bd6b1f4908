"""Whether clients are trained together or one after the other: asked of the clock, and said."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from equipoise.federated.algorithm import Algorithm
from equipoise.federated.engine.batched import Batched
from equipoise.federated.engine.task import Task
from equipoise.federated.engine.worker import Worker

Batching = Literal["auto", "batched", "loop"]

SIZES = (8, 32, 128, 512)
"""Numbers of clients trained together that are tried."""
WORTH = 0.9
"""A way is taken where it needs less than this part of the time of the one before."""
HOPELESS = 1.3
"""Where a number of clients needs this much of the best time, larger ones are not tried."""
MOST = 2**28
"""Bytes of the parameters of clients trained together, at most."""
STEPS = 4
"""Local steps of a client that are timed, at most; with more, the rest is reckoned from the first few."""
SHORT = 0.01
"""Seconds; what takes less is timed twice, and the least counts."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How clients are trained: `together` at a time, 1 for one after the other, and why.

    seconds: what the trial took, 0 where there was none.
    """

    together: int
    reason: str
    seconds: float = 0.0


def obstacle(model: nn.Module, algorithm: Algorithm, worker: Worker) -> str | None:
    """What keeps clients of this model from being trained together; None where nothing is known to."""
    if not algorithm.client.batched:
        return f"{type(algorithm.client).__name__} trains one client at a time"
    for name, module in model.named_modules():
        if (
            getattr(module, "track_running_stats", False)
            and getattr(module, "running_mean", None) is not None
        ):
            return f"{name or 'the model'} ({type(module).__name__}) keeps statistics of its batches"
    if worker.draws_globally:
        return "the model drops units at random from torch's own generator"
    return None


def choose(
    batching: Batching, worker: Worker, batched: Batched, tasks: Sequence[Task], *, number: int
) -> Choice:
    """The faster way for these tasks, by a few steps of each; the models are not changed.

    Raises ValueError where "batched" is asked for and the model or the algorithm does not allow it.
    """
    if batching not in ("auto", "batched", "loop"):
        raise ValueError(f'batching is {batching!r}; it is "auto", "batched" or "loop"')
    if batching == "loop":
        return Choice(1, "asked for")
    began = time.perf_counter()
    found = obstacle(worker.model, worker.algorithm, worker)
    if found is None and len(tasks) > 1:
        found = _fails(batched, tasks[:2], number)
    fitting = [size for size in SIZES if size * _bytes(worker.model) <= MOST]
    if batching == "batched":
        if found is not None:
            raise ValueError(f'batching="batched" is not possible: {found}')
        return Choice(max((size for size in fitting if size <= SIZES[2]), default=2), "asked for")
    if found is None and len(tasks) < 2:
        found = "there is one client"
    if found is None and not fitting:
        found = f"a model has {_bytes(worker.model) / 2**20:.0f} MiB of parameters"
    if found is not None:
        return Choice(1, found, time.perf_counter() - began)
    together, faster = _faster(Trial(worker, batched, number), tasks, fitting)
    seconds = time.perf_counter() - began
    told = f"in a trial of {seconds * 1e3:.0f} ms"
    if together == 1:
        return Choice(1, f"one client after the other is as fast, {told}", seconds)
    return Choice(together, f"{faster:.1f} times as fast as one after the other, {told}", seconds)


def _fails(batched: Batched, tasks: Sequence[Task], number: int) -> str | None:
    """Why two clients cannot be trained together; None where they were."""
    doing = "the clients' examples do not go side by side"
    try:
        batched.hold(tasks)
        doing = "torch.func.vmap does not go through the model"
        batched.train([replace(task, effort=1e-9) for task in tasks], number)
    except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
        return f"{doing}: {' '.join(str(error).split())[:200]}"
    return None


def _faster(trial: "Trial", tasks: Sequence[Task], sizes: Sequence[int]) -> tuple[int, float]:
    """How many together, and how many times as fast that is as one client after the other."""
    loop = best = trial.loop(tasks[:2])
    together = 1
    for size, following in zip(sizes, (*sizes[1:], None), strict=True):
        if following is not None and size < len(tasks) < 2 * size:
            continue  # the next will have all of them
        took = trial.batched(tasks[:size])
        if took < WORTH * best:
            best, together = took, size
        if took > HOPELESS * best or size >= len(tasks):
            break
    return together, loop / best


@dataclass(frozen=True, slots=True)
class Trial:
    """Seconds that a client's part of a round takes, from `STEPS` of its steps and from the first alone."""

    worker: Worker
    batched_: Batched
    number: int

    def loop(self, tasks: Sequence[Task]) -> float:
        """One after the other."""
        self.worker.train(replace(tasks[0], effort=1e-9), self.number, measure=False)
        return self._each(
            tasks, lambda few: [self.worker.train(task, self.number, measure=False) for task in few]
        )

    def batched(self, tasks: Sequence[Task]) -> float:
        """All of them together."""
        return self._each(tasks, lambda few: self.batched_.train(few, self.number))

    def _each(self, tasks: Sequence[Task], train: Callable[[Sequence[Task]], object]) -> float:
        all_steps = [self._steps(task) for task in tasks]
        steps = sum(all_steps) / len(tasks)

        def timed(most: int) -> float:
            few = [
                replace(task, effort=task.effort * min(1.0, most / own))
                for task, own in zip(tasks, all_steps, strict=True)
            ]
            return self._seconds(lambda: train(few)) / len(tasks)

        if steps <= STEPS:
            return timed(STEPS)
        first, some = timed(1), timed(STEPS)
        return some + max(some - first, 0.0) / (STEPS - 1) * (steps - STEPS)

    def _steps(self, task: Task) -> int:
        count, local = len(self.worker.federation.examples(task.client, "train")[0]), self.worker.local
        return len(local.batches(count, torch.Generator(), task.effort))

    def _seconds(self, function: Callable[[], object]) -> float:
        """Of this thread on the CPU where it does all the work, which neighbours do not lengthen."""
        alone = self.worker.device.type == "cpu" and torch.get_num_threads() == 1
        clock, took = time.thread_time if alone else time.perf_counter, []
        while not took or (took[-1] < SHORT and len(took) < 2):
            self._wait()
            began = clock()
            function()
            self._wait()
            took.append(clock() - began)
        return min(took)

    def _wait(self) -> None:
        if self.worker.device.type == "cuda":
            torch.cuda.synchronize(self.worker.device)


def _bytes(model: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())
