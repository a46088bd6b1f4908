"""One small network trained on MNIST, and what it becomes on four other kinds of digits.

Images of 16 x 16 pixels, one grey; a network of three convolutions and two linear layers without
normalisation, so that there are no statistics to renew after merging; one head of ten classes for all tasks.
The tasks: USPS, MNIST-M (its colours averaged), MNIST turned by 90 degrees and MNIST inverted. No MNIST image
is in two training sets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import mean

import numpy as np
import torch
from _digit_images import Images, _scaled, images
from torch import Tensor, nn
from torch.nn import functional

from equipoise.problems.data import find

SIDE = 16
PARTS = ("train", "validation", "test")
VALIDATION = 200
BATCH = 64
RATE = 2e-3
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Course:
    """Steps of Adam on MNIST, then on each task; so many images of each task are trained on and tested.

    `foretaste`: how many of each task's training images the first steps see too, mixed with MNIST.
    """

    pretraining: int = 2000
    tuning: int = 300
    images: int = 5000
    tested: int = 2000
    foretaste: int = 0

    @property
    def sizes(self) -> Mapping[str, int]:
        """Images of a task by part."""
        return {"train": self.images, "validation": min(VALIDATION, self.tested), "test": self.tested}


NARROW = Course()
BROAD = Course(foretaste=100)
TRIAL = Course(40, 40, 300, 100)


@dataclass(frozen=True, eq=False)
class Experts:
    """A base, its experts by task, one model of all tasks together, and the tasks' images by part."""

    base: State
    experts: Mapping[str, State]
    joint: State
    tasks: Mapping[str, Mapping[str, Images]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.tasks)

    def only(self, *names: str) -> "Experts":
        """The experts and tasks of these names alone."""
        return Experts(
            self.base,
            {name: self.experts[name] for name in names},
            self.joint,
            {name: self.tasks[name] for name in names},
        )


class Network(nn.Module):
    """Its layers are one stack, the head being the last."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, 64)
        convolutions = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)]
        self.layers = nn.ModuleList([*convolutions, nn.Linear(256, 64), nn.Linear(64, 10)])

    def forward(self, x: Tensor) -> Tensor:  # (n, 16, 16) -> (n, 10)
        x = x.unsqueeze(1)
        for layer in self.layers[:3]:
            x = functional.relu(layer(x))
        return self.layers[4](functional.relu(self.layers[3](x.flatten(1))))


def network(state: State) -> Network:
    model = Network()
    model.load_state_dict(dict(state))
    return model


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: values.detach().clone() for name, values in model.state_dict().items()}


@torch.no_grad()
def accuracy(state: State, data: Images) -> float:
    """In per cent."""
    return 100 * float((network(state)(data.x).argmax(1) == data.y).double().mean())


def accuracies(state: State, experts: Experts, part: str) -> dict[str, float]:
    """By task, in per cent."""
    return {name: accuracy(state, parts[part]) for name, parts in experts.tasks.items()}


def mean_accuracy(state: State, experts: Experts, part: str) -> float:
    return mean(accuracies(state, experts, part).values())


def descend(model: Network, draw: Callable[[], Images], steps: int, rate: float = RATE) -> dict[str, Tensor]:
    """Steps of Adam on the cross-entropy of batches that `draw` gives -> the state at the end."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        batch = draw()
        optimizer.zero_grad()
        functional.cross_entropy(model(batch.x), batch.y).backward()
        optimizer.step()
    return state_of(model)


def batches(data: Sequence[Images], generator: torch.Generator) -> Callable[[], Images]:
    """Batches of as many images of each of the data sets, drawn anew every time."""
    share = BATCH // len(data)

    def draw() -> Images:
        found = [one.take(torch.randint(len(one), (share,), generator=generator)) for one in data]
        return Images(torch.cat([one.x for one in found]), torch.cat([one.y for one in found]))

    return draw


@cache
def trained(course: Course, seed: int) -> Experts:
    """The base and its experts; the seed chooses images, start and batches."""
    generator = torch.Generator().manual_seed(seed)
    source, tasks = tasks_of(course.sizes, generator)
    torch.manual_seed(seed)  # of the first network's weights
    first = torch.arange(course.foretaste)
    some = [parts["train"].take(first) for parts in tasks.values()] if course.foretaste else []
    base = descend(Network(), batches([source, *some], generator), course.pretraining)
    experts = {
        name: descend(network(base), batches([parts["train"]], generator), course.tuning)
        for name, parts in tasks.items()
    }
    everything = [parts["train"] for parts in tasks.values()]
    joint = descend(network(base), batches(everything, generator), course.tuning * len(tasks))
    return Experts(base, experts, joint, tasks)


def tasks_of(
    sizes: Mapping[str, int], generator: torch.Generator
) -> tuple[Images, dict[str, dict[str, Images]]]:
    """Images to start with, and those of the tasks."""
    mnist = images("mnist", SIDE)
    found = {part: apart(mnist[part], sizes[part], generator) for part in PARTS}
    turned = {part: Images(one.x.rot90(1, (1, 2)), one.y) for part, (_, one, _) in found.items()}
    inverted = {part: Images(1 - one.x, one.y) for part, (_, _, one) in found.items()}
    others = {"usps": images("usps", SIDE), "mnist-m": mnist_m()}
    drawn = {
        name: {part: data[part].some(sizes[part], generator) for part in PARTS}
        for name, data in others.items()
    }
    return found["train"][0], {**drawn, "turned": turned, "inverted": inverted}


def apart(data: Images, size: int, generator: torch.Generator) -> list[Images]:
    """Three sets of images, none of them in two: what the other two leave, and twice so many."""
    order = torch.randperm(len(data), generator=generator)
    return [data.take(index) for index in order.split([len(data) - 2 * size, size, size])]


@cache
def mnist_m() -> Mapping[str, Images]:
    """The parts of MNIST-M, grey; the last 500 training images are for validation."""
    path = find("mnist_m", "mnist_m_7k.npz", download=False)
    assert path is not None
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: torch.from_numpy(file[key]) for key in ("x_train", "y_train", "x_test", "y_test")}
    x, y = _scaled(arrays["x_train"].float().mean(-1), SIDE), arrays["y_train"].long()
    held = _scaled(arrays["x_test"].float().mean(-1), SIDE)
    return {
        "train": Images(x[:-500], y[:-500]),
        "validation": Images(x[-500:], y[-500:]),
        "test": Images(held, arrays["y_test"].long()),
    }
