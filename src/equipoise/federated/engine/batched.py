"""Batched: many clients trained at once, over one more axis of every tensor."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import vmap

from equipoise.core.federation import Examples, Federation
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors, View, difference
from equipoise.federated.engine.descent import descend, moved
from equipoise.federated.engine.placed import BatchLoss, Placed, load
from equipoise.federated.engine.rows import Memory, Rows
from equipoise.federated.engine.seeds import generator
from equipoise.federated.engine.task import Replies, Task
from equipoise.federated.engine.worker import draws_for, planned
from equipoise.federated.local import Local


class Batched:
    """Local training of a chunk of clients as one computation.

    Each step takes a batch from every client that has one left, padded to the longest. The draws are those
    of `Worker`, so that the two agree to rounding. Gradients are those of the sum of the clients' losses by
    a parameter tensor with a row for each client.
    """

    def __init__(
        self, federation: Federation, algorithm: Algorithm, model: nn.Module, local: Local, seed: int
    ) -> None:
        self.federation = federation
        self.algorithm = algorithm
        self.local = local
        self.seed = seed
        self.placed = Placed(deepcopy(model).train())
        self.device = next(model.parameters()).device
        self._memory = Memory()
        self._flat: Examples = ()
        self._starts: dict[str, int] = {}
        self._counts: dict[str, int] = {}

    def hold(self, tasks: Sequence[Task] = ()) -> None:
        """Lay the training examples of all clients one behind the other, of these and who else has some."""
        if self._flat and all(task.client in self._counts for task in tasks):
            return
        each = {task.client: self.federation.examples(task.client, "train") for task in tasks}
        for name in self.federation.clients:
            with suppress(Exception):  # the error is met where that client trains
                each[name] = self.federation.examples(name, "train")
        self._flat = tuple(torch.cat(parts).to(self.device) for parts in zip(*each.values(), strict=True))
        start = 0
        for name, examples in each.items():
            self._starts[name], self._counts[name] = start, len(examples[0])
            start += len(examples[0])

    def train_all(self, tasks: Sequence[Task], number: int, together: int) -> Replies:
        """Round `number` of any number of clients, `together` at a time, those with like numbers of steps.

        Raises ValueError as `train` does.
        """
        self.hold(tasks)
        if len(tasks) <= together:
            return self.train(tasks, number)
        order = sorted(range(len(tasks)), key=lambda i: self._counts[tasks[i].client] * tasks[i].effort)
        rows = Rows(tuple(task.client for task in tasks), self._memory)
        for start in range(0, len(tasks), together):
            some = order[start : start + together]
            rows.place(some, self.train([tasks[i] for i in some], number))
        return rows.replies()

    def train(self, tasks: Sequence[Task], number: int) -> Replies:
        """Round `number` of these clients, all at once.

        Raises ValueError for a client without training examples.
        """
        self.hold(tasks)
        for task in tasks:
            if not self._counts[task.client]:
                raise ValueError(f"client {task.client!r} has no training examples")
        plans = [planned(self.local, self.seed, task, number, self._counts[task.client]) for task in tasks]
        order = sorted(range(len(tasks)), key=lambda i: len(plans[i]))
        if order != sorted(order):
            found = self._train([tasks[i] for i in order], number, [plans[i] for i in order])
            return found.take(torch.tensor(order).argsort())
        return self._train(tasks, number, plans)

    def _train(self, tasks: Sequence[Task], number: int, plans: Sequence[list[Tensor]]) -> Replies:
        """The same for clients in the order of their numbers of steps."""
        client, rate = self.algorithm.client, self.local.rate(number)
        load(self.placed.model, tasks[0].buffers)
        counts = [self._counts[task.client] for task in tasks]
        steps = torch.tensor([len(plan) for plan in plans], dtype=torch.float64)
        samples = torch.tensor(counts, dtype=torch.float64)
        kept, context = _stack([t.kept for t in tasks]), _stack([t.context for t in tasks])
        anchor = _stack([t.received for t in tasks])
        if type(client).receive is not ClientAlgorithm.receive:
            anchor = vmap(client.receive)(anchor, kept, context)
        seen = Seen(anchor, kept, context, steps.to(self.device), samples.to(self.device))
        ends = {name: tensor.clone() for name, tensor in anchor.items()}
        total = torch.zeros(len(tasks), dtype=torch.float64, device=self.device)
        self._descend(
            tasks, number, seen, ends, total, Layout(plans, [self._starts[t.client] for t in tasks])
        )
        with torch.no_grad():
            if type(client).reply is ClientAlgorithm.reply:
                update, sent = difference(ends, anchor), {}
            else:
                update, sent, kept = vmap(self._reply(rate))(ends, *seen.parts)
        side = {"samples": samples, "steps": steps, "loss_during": total.cpu() / steps}
        buffers = _stack([task.buffers for task in tasks])
        return Replies(tuple(t.client for t in tasks), update, sent, kept, side, buffers)

    def _descend(
        self, tasks: Sequence[Task], number: int, seen: "Seen", ends: Tensors, total: Tensor, layout: "Layout"
    ) -> None:
        """All local steps, in place in `ends` (m, ...); the losses add up in `total` (m,)."""
        client, local, rate = self.algorithm.client, self.local, self.local.rate(number)
        draws = [generator(self.seed, "draws", t.client, number) for t in tasks] if draws_for(client) else []
        objective, correct = self._objective(rate), self._correct(rate)
        going, leaves, momenta, batch, rows = -1, {}, [], (), None
        for step in range(layout.sizes.shape[1]):
            first = layout.first(step)
            if first != going:
                leaves = {name: tensor[first:].requires_grad_() for name, tensor in ends.items()}
                momenta = [momentum[first - max(going, 0) :] for momentum in momenta]
                seen, draws = seen.after(first - max(going, 0)), draws[first - max(going, 0) :]
                going = first
            now, mask = layout.rows(step)
            if rows is None or not np.array_equal(now, rows):
                rows, index = now, torch.from_numpy(now.reshape(-1)).to(self.device)
                batch = tuple(part.index_select(0, index).unflatten(0, now.shape) for part in self._flat)
            padding = () if mask is None else (torch.from_numpy(mask).to(self.device, _dtype(leaves)),)
            drawn = self._drawn(leaves, layout.sizes[first:, step], draws)
            values, data = objective(leaves, batch, padding, drawn, seen)
            gradients = list(
                torch.autograd.grad(
                    values.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
                )
            )
            with torch.no_grad():
                gradients = correct(gradients, leaves, drawn, seen)
                if local.clip is not None:
                    gradients = _clipped(gradients, local.clip)
                gradients, momenta = moved(gradients, list(leaves.values()), momenta, local)
                descend(list(leaves.values()), gradients, rate)
                total[first:] += data.detach()

    def _objective(self, rate: float) -> Callable[..., tuple[Tensor, Tensor]]:
        client, federation, placed = self.algorithm.client, self.federation, self.placed

        def plain(parameters, batch, padding):
            return BatchLoss(federation, placed, batch, mask=padding[0] if padding else None)(parameters)

        def other(parameters, batch, padding, drawn, *parts):
            loss = BatchLoss(federation, placed, batch, mask=padding[0] if padding else None)
            anchor, kept, context, steps, samples = parts
            view = View(anchor, kept, context, rate, steps, samples, drawn, self.local)
            return client.objective(loss, parameters, view)

        def objective(leaves, batch, padding, drawn, seen):
            if type(client).objective is ClientAlgorithm.objective:
                values = vmap(plain)(leaves, batch, padding)
                return values, values
            return vmap(other)(leaves, batch, padding, drawn, *seen.parts)

        return objective

    def _correct(self, rate: float) -> Callable[..., list[Tensor]]:
        client = self.algorithm.client

        def one(gradient, parameters, drawn, anchor, kept, context, steps, samples):
            view = View(anchor, kept, context, rate, steps, samples, drawn, self.local)
            return client.correct(gradient, parameters, view)

        def correct(gradients, leaves, drawn, seen):
            if type(client).correct is ClientAlgorithm.correct:
                return gradients
            named = dict(zip(leaves, gradients, strict=True))
            return list(vmap(one)(named, leaves, drawn, *seen.parts).values())

        return correct

    def _reply(self, rate: float):
        client = self.algorithm.client

        def reply(parameters, anchor, kept, context, steps, samples):
            view = View(anchor, kept, context, rate, steps, samples, local=self.local)
            found = client.reply(parameters, view)
            return found.update, found.sent, found.kept

        return reply

    def _drawn(self, leaves: Tensors, sizes: np.ndarray, draws: Sequence[torch.Generator]) -> Tensors:
        if not draws:
            return {}
        one, width = {name: leaf[0] for name, leaf in leaves.items()}, int(sizes.max())
        rows = [
            self.algorithm.client.draw(one, int(size), draw) for size, draw in zip(sizes, draws, strict=True)
        ]
        padded = [{name: _lengthened(t, width) for name, t in row.items()} for row in rows]
        return {name: tensor.to(self.device) for name, tensor in _stack(padded).items()}


@dataclass(frozen=True, slots=True)
class Seen:
    """What m clients see in a round, a row for each: the fields of `View` that stay the same in it."""

    anchor: Tensors
    kept: Tensors
    context: Tensors
    steps: Tensor
    samples: Tensor

    @property
    def parts(self) -> tuple[Tensors, Tensors, Tensors, Tensor, Tensor]:
        """All of it, in the order of the fields."""
        return self.anchor, self.kept, self.context, self.steps, self.samples

    def after(self, first: int) -> "Seen":
        """Without the first clients; views."""
        if not first:
            return self
        anchor, kept, context = (
            {name: t[first:] for name, t in part.items()} for part in (self.anchor, self.kept, self.context)
        )
        return Seen(anchor, kept, context, self.steps[first:], self.samples[first:])


class Layout:
    """Where the examples of each step lie, for m clients in the order of their numbers of steps.

    sizes: (m, steps) int64, how many examples; 0 where a client has done its steps.
    """

    def __init__(self, plans: Sequence[list[Tensor]], starts: Sequence[int]) -> None:
        self.counts = np.array([len(plan) for plan in plans])
        self.sizes = np.zeros((len(plans), self.counts.max()), dtype=np.int64)
        for row, plan in zip(self.sizes, plans, strict=True):
            row[: len(plan)] = [len(batch) for batch in plan]
        self._filled = np.arange(self.sizes.max()) < self.sizes[..., None]
        self._index = np.zeros(self._filled.shape, dtype=np.int64)
        examples = torch.cat([batch for plan in plans for batch in plan]).numpy()
        self._index[self._filled] = examples + np.repeat(starts, self.sizes.sum(1))
        # padding repeats an example of the batch, so that nothing of another one comes near
        np.copyto(self._index, self._index[..., :1], where=~self._filled)

    def first(self, step: int) -> int:
        """The first client that still goes on in a step; all behind it do."""
        return int(np.searchsorted(self.counts, step, side="right"))

    def rows(self, step: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Where the examples of the clients that go on lie, (k, width), and which are no padding.

        None for the latter where none is padding.
        """
        first = self.first(step)
        width = int(self.sizes[first:, step].max())
        filled = self._filled[first:, step, :width]
        return self._index[first:, step, :width], None if filled.all() else filled


def _clipped(gradients: list[Tensor], most: float) -> list[Tensor]:  # (m, ...) each
    """Each client's gradient, not longer than `most`."""
    lengths = torch.stack([torch.linalg.vector_norm(g.reshape(len(g), -1), dim=1) for g in gradients])
    factors = (most / torch.linalg.vector_norm(lengths, dim=0)).clamp(max=1.0).nan_to_num(1.0)
    return [g * factors.reshape(-1, *[1] * (g.dim() - 1)) for g in gradients]


def _dtype(leaves: Tensors) -> torch.dtype:
    return next(iter(leaves.values())).dtype


def _stack(rows: Sequence[Tensors]) -> Tensors:
    """Tensors (*shape) of m clients -> (m, *shape); no copy where all have the very same ones."""
    if all(row is rows[0] for row in rows):
        return {name: tensor.expand(len(rows), *tensor.shape) for name, tensor in rows[0].items()}
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _lengthened(tensor: Tensor, count: int) -> Tensor:  # (n, ...) -> (count, ...)
    """Zeros behind the rows of a tensor."""
    rest = count - len(tensor)
    return torch.cat([tensor, tensor.new_zeros(rest, *tensor.shape[1:])]) if rest else tensor
