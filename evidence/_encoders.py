"""A pool of small encoders, and how well each of them fine-tunes to tasks that none has seen.

Six networks for each source task of `_encoder_tasks`: two or three convolutions, then a linear layer of 48,
128 or 320, whose output is the features; its predictions are those for the classes of its source. Fine-tuning
trains all layers and a new head on N images of a target, a hundred steps of Adam; a draw chooses the images,
for all models alike, and head and batches, for those of one width. The N = 60 images are the first of the
300, and those for testing are none of them. Convolutions are products of matrices, many networks at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from _encoder_tasks import CELLS, PIXELS, SOURCES, TARGETS, Task, task
from torch import Tensor
from torch.nn import functional

from equipoise.transferability import Sample

WIDTHS = (48, 128, 320)
DEPTHS = (2, 3)
BATCH = 32
RATE = 1e-3
ENCODER_RATE, HEAD_RATE = 3e-4, 3e-3
"""Of fine-tuning."""
HELD = 300
"""Images of a source that are kept for its accuracy, and for the reference features of its models."""


@dataclass(frozen=True)
class Course:
    """Steps on the source and on the target; images of a target; draws of these; images tested; tasks."""

    pretraining: int = 1000
    tuning: int = 100
    sizes: tuple[int, ...] = (60, 300)
    draws: int = 5
    tested: int = 500
    targets: tuple[str, ...] = TARGETS
    sources: tuple[str, ...] = SOURCES


@dataclass(frozen=True, eq=False)
class Stack:
    """Networks of one width and depth, all of them in each tensor: weights (b, in, out), biases (b, 1, out).

    First the convolutions, then the linear layer and the head.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]

    def features(self, x: Tensor) -> Tensor:  # (b, n, 1024) -> (b, n, width)
        b, n, _ = x.shape
        cells = CELLS
        *convolutions, (weight, bias), _ = zip(self.weights, self.biases, strict=True)
        for filters, offsets in convolutions:
            x = torch.baddbmm(offsets, x.reshape(b, n * cells, -1), filters).relu()
            cells //= 4
        if cells > 1:
            x = x.view(b, n * cells, 4, -1).amax(2)
        return torch.baddbmm(bias, x.reshape(b, n, -1), weight).relu()

    def logits(self, x: Tensor) -> Tensor:  # (b, n, 1024) -> (b, n, classes)
        return torch.baddbmm(self.biases[-1], self.features(x), self.weights[-1])

    def descend(
        self,
        draw: Callable[[], tuple[Tensor, Tensor]],
        steps: int,
        rate: float = RATE,
        head_rate: float = RATE,
    ) -> "Stack":
        """Steps of Adam on the cross-entropy of batches (b, n, 1024), (b, n)."""
        parameters = [one.clone().requires_grad_() for one in (*self.weights, *self.biases)]
        found = Stack(parameters[: len(self.weights)], parameters[len(self.weights) :])
        heads = [found.weights[-1], found.biases[-1]]
        rest = [*found.weights[:-1], *found.biases[:-1]]
        groups = [{"params": rest, "lr": rate}, {"params": heads, "lr": head_rate}]
        optimizer = torch.optim.Adam(groups, fused=True)
        for _ in range(steps):
            x, y = draw()
            optimizer.zero_grad()
            losses = functional.cross_entropy(found.logits(x).flatten(0, 1), y.flatten(), reduction="sum")
            (losses / y.shape[1]).backward()
            optimizer.step()
        return Stack([w.detach() for w in found.weights], [b.detach() for b in found.biases])

    def repeated(self, heads: Tensor) -> "Stack":  # (draws, width, classes)
        """Every network once for each head, in the place of its own."""
        count, draws = len(self.weights[0]), len(heads)
        weights = [w.repeat_interleave(draws, 0) for w in self.weights[:-1]]
        biases = [b.repeat_interleave(draws, 0) for b in self.biases[:-1]]
        nothing = torch.zeros(count * draws, 1, heads.shape[2])
        return Stack([*weights, heads.repeat(count, 1, 1)], [*biases, nothing])


def layers(width: int, depth: int) -> list[tuple[int, int]]:
    """Inputs and outputs of an encoder's layers: a quarter of the cells, twice the channels each time."""
    c = width // 8
    channels = [c * 2**at for at in range(depth)]
    inputs = [PIXELS, *(4 * out for out in channels[:-1])]
    return [*zip(inputs, channels, strict=True), (4 * channels[-1], width)]


def started(shapes: Sequence[tuple[int, int]], count: int, generator: torch.Generator) -> Stack:
    """`count` networks with normal weights of variance 2 / in."""
    return Stack(
        [torch.randn(count, a, b, generator=generator) * (2 / a) ** 0.5 for a, b in shapes],
        [torch.zeros(count, 1, b) for _, b in shapes],
    )


@dataclass(frozen=True, eq=False)
class Draw:
    """Images of a target for training, the smaller number the first ones, and for testing."""

    train: Task
    test: Task


class Pool:
    """The encoders and their fine-tuned accuracies; `seed` chooses starts, batches and images.

    `names`: of the models, source and shape. `parameters`, `source_accuracy`: of each, the latter in [0, 1].
    """

    def __init__(self, course: Course, seed: int = 0) -> None:
        self.course, self.seed = course, seed
        self.stacks: dict[tuple[int, int], Stack] = {}
        self.names: list[str] = []
        self.parameters: dict[str, int] = {}
        self.source_accuracy: dict[str, float] = {}
        draw = torch.Generator().manual_seed(seed)
        tasks = [task(source) for source in course.sources]
        orders = [one.order(draw) for one in tasks]
        self._held = [
            Task(one.x[order[:HELD]], one.y[order[:HELD]]) for one, order in zip(tasks, orders, strict=True)
        ]
        learn = [order[HELD:] for order in orders]

        def batch() -> tuple[Tensor, Tensor]:
            picks = [own[torch.randint(len(own), (BATCH,), generator=draw)] for own in learn]
            pairs = list(zip(tasks, picks, strict=True))
            return torch.stack([t.x[i] for t, i in pairs]), torch.stack([t.y[i] for t, i in pairs])

        for depth in DEPTHS:
            for width in WIDTHS:
                shapes = [*layers(width, depth), (width, max(one.classes for one in tasks))]
                stack = started(shapes, len(tasks), draw).descend(batch, course.pretraining)
                self.stacks[width, depth] = stack
                right = stack.logits(torch.stack([one.x for one in self._held])).argmax(2)
                for at, source in enumerate(self.course.sources):
                    name = f"{source}, {depth} x {width}"
                    self.names.append(name)
                    self.parameters[name] = sum(a * b + b for a, b in shapes[:-1])
                    self.source_accuracy[name] = float((right[at] == self._held[at].y).double().mean())

    def drawn(self, target: str, draw: int) -> Draw:
        """The same images at any number of them."""
        generator = torch.Generator().manual_seed(1000 * self.seed + draw)
        whole, most = task(target), max(self.course.sizes)
        order = whole.order(generator)
        train, test = order[:most], order[most : most + self.course.tested]
        return Draw(Task(whole.x[train], whole.y[train]), Task(whole.x[test], whole.y[test]))

    def truth(self, target: str, size: int) -> np.ndarray:  # -> (models, draws)
        """The fine-tuned accuracies, in per cent."""
        course = self.course
        draws = [self.drawn(target, draw) for draw in range(course.draws)]
        x = torch.stack([one.train.x[:size] for one in draws])
        y = torch.stack([one.train.y[:size] for one in draws])
        held, right = torch.stack([one.test.x for one in draws]), torch.stack([one.test.y for one in draws])
        rows, sources = torch.arange(course.draws)[:, None], len(self.course.sources)
        found = []

        def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            picks = torch.randint(size, (course.draws, BATCH), generator=generator)
            return x[rows, picks].repeat(sources, 1, 1), y[rows, picks].repeat(sources, 1)

        for (width, _), stack in self.stacks.items():
            generator = torch.Generator().manual_seed(1000 * self.seed + size)
            heads = torch.randn(course.draws, width, task(target).classes, generator=generator)
            start = stack.repeated(heads * width**-0.5)
            tuned = start.descend(partial(batch, generator), course.tuning, ENCODER_RATE, HEAD_RATE)
            said = tuned.logits(held.repeat(sources, 1, 1)).argmax(2).view(sources, *right.shape)
            found.append((said == right).double().mean(2))
        return 100 * torch.cat(found).numpy()

    def samples(self, target: str, size: int, draw: int) -> dict[str, Sample]:
        """What each model makes of the images of a draw, before any fine-tuning."""
        pictures = self.drawn(target, draw).train
        return self._seen([pictures.x[:size]] * len(self.course.sources), pictures.y[:size].numpy())

    def references(self) -> Mapping[str, np.ndarray]:
        """The features of every model for images of its own source that it was not trained on."""
        return {name: one.features for name, one in self._seen([one.x for one in self._held]).items()}

    def _seen(self, x: Sequence[Tensor], labels: np.ndarray | None = None) -> dict[str, Sample]:
        """A sample by model, from images for each source."""
        found = []
        for stack in self.stacks.values():
            features = stack.features(torch.stack([*x]))
            logits = torch.baddbmm(stack.biases[-1], features, stack.weights[-1])
            for at, source in enumerate(self.course.sources):
                said = logits[at, :, : task(source).classes].double().softmax(1)
                found.append((features[at].numpy(), said.numpy()))
        return {
            name: Sample(features, labels, said, name=name)
            for name, (features, said) in zip(self.names, found, strict=True)
        }
