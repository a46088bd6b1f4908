"""Tasks one after the other, learned with experience replay and evaluated after every step."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from _digit_images import Images
from torch import Tensor, nn

import equipoise
from equipoise import Evaluations
from equipoise.aggregation import GEM, DualProj

BATCH = 64
PER_CLASS = 200  # images of each class of a finished task that are kept for replay
HIDDEN = 128

METHODS = ("replay", "projection", "GEM")
NEW_ALONE = {"new": 1.0, "memory": 0.0}


@dataclass(frozen=True)
class Task:
    name: str
    train: Images
    held: Images


@dataclass
class Learner:
    """A model, what it remembers, and the draws that training makes."""

    model: nn.Module
    method: str
    rate: float
    generator: torch.Generator
    memory: dict[str, list[Images]] = field(default_factory=dict)  # of each finished task

    def step(self, data: Images) -> None:
        """One step on new and remembered data: the mean of both losses, or the new gradient projected.

        GEM has one loss for each finished task, the others one for all.
        """
        losses = {"new": self._loss(data)}
        if self.method == "GEM":
            losses |= {name: self._loss(joined(kept)) for name, kept in self.memory.items()}
        elif self.memory:
            losses["memory"] = self._loss(joined([one for kept in self.memory.values() for one in kept]))
        self.model.zero_grad()
        if self.method == "projection" and self.memory:
            equipoise.backward(losses, DualProj(), preference=NEW_ALONE)
        elif self.method == "GEM" and self.memory:
            equipoise.backward(losses, GEM(primary="new"))
        else:
            torch.stack(list(losses.values())).mean().backward()
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter -= self.rate * parameter.grad

    def remember(self, task: Task) -> None:
        classes = task.train.y.unique().tolist()
        self.memory[task.name] = [
            task.train.of((digit,)).some(PER_CLASS, self.generator) for digit in classes
        ]

    def fork(self) -> "Learner":
        """The same learner again, going on by itself."""
        generator = torch.Generator()
        generator.set_state(self.generator.get_state())
        return Learner(deepcopy(self.model), self.method, self.rate, generator, dict(self.memory))

    def _loss(self, data: Images) -> Tensor:
        picks = torch.randint(len(data), (BATCH,), generator=self.generator)
        return nn.functional.cross_entropy(self.model(data.x[picks].flatten(1)), data.y[picks])


def joined(parts: Sequence[Images]) -> Images:
    return Images(torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts]))


def learner(side: int, method: str, rate: float, seed: int) -> Learner:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(side * side, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10)
    )
    return Learner(model, method, rate, torch.Generator().manual_seed(seed))


@torch.no_grad()
def accuracies(model: nn.Module, tasks: Sequence[Task]) -> dict[str, float]:
    held = torch.cat([task.held.x for task in tasks]).flatten(1)
    right = model(held).argmax(1) == torch.cat([task.held.y for task in tasks])
    parts = right.double().split([len(task.held) for task in tasks])
    return {task.name: float(part.mean()) for task, part in zip(tasks, parts, strict=True)}


@dataclass(frozen=True)
class Course:
    """What a run gave: evaluations after every step, and the falls of a control without a switch.

    `control` holds for each switch and old task the fall before - lowest that the same model shows where the
    data of the last task go on in place of the new one.
    """

    evaluations: Evaluations
    control: tuple[float, ...]


def learn(student: Learner, tasks: Sequence[Task], steps: int, control: bool) -> Course:
    """Learn the tasks in order, `steps` steps each."""
    found = Evaluations([(task.name, (k + 1) * steps) for k, task in enumerate(tasks)])
    found.add(0, accuracies(student.model, tasks))
    falls: list[float] = []
    for k, task in enumerate(tasks):
        if k and control:
            falls += _falls(student.fork(), tasks, k, steps)
        for step in range(k * steps + 1, (k + 1) * steps + 1):
            student.step(task.train)
            found.add(step, accuracies(student.model, tasks))
        student.remember(task)
    return Course(found, tuple(falls))


def _falls(student: Learner, tasks: Sequence[Task], k: int, steps: int) -> Iterator[float]:
    before, curves = accuracies(student.model, tasks[:k]), []
    for _ in range(steps):
        student.step(tasks[k - 1].train)
        curves.append(accuracies(student.model, tasks[:k]))
    for name, accuracy in before.items():
        yield accuracy - min(curve[name] for curve in curves)
