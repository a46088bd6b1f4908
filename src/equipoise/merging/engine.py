"""The engine: surveys, then tensor after tensor, part after part, into a sink on disk or in memory."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import Any, Protocol

import torch
from torch import Tensor

from equipoise.core.errors import NonFiniteDirection
from equipoise.merging.block import CHUNK, Block, Blocks
from equipoise.merging.mergerule import MergeRule
from equipoise.merging.plan import BEYOND, Plan, Planned, arithmetic

Progress = Callable[[int], None]
"""Told the bytes of the merged model that are done, as they are done."""


class Sink(Protocol):
    """Where merged values go, from several threads."""

    def write(self, name: str, start: int, values: Tensor) -> None:
        """Take flat values of a tensor, from an element on, in the dtype of the tensor."""
        ...


class Memory:
    """A sink that gathers a `state_dict`."""

    def __init__(self, plan: Plan) -> None:
        self.tensors = {t.name: torch.empty(t.shape, dtype=t.dtype) for t in plan.tensors}

    def write(self, name: str, start: int, values: Tensor) -> None:
        self.tensors[name].view(-1)[start : start + values.numel()] = values


def run(plan: Plan, sink: Sink, *, threads: int = 1, progress: Progress | None = None) -> None:
    """Merge all tensors of a plan into a sink.

    Raises NonFiniteDirection where a source, or what a rule made of finite ones, is not finite, or is more
    than the dtype of the merged tensor holds.
    """
    with one_thread_each():
        surveys: dict[int, Any] = {}
        for rules, blocks in plan.surveys():
            surveys |= dict.fromkeys(map(id, rules), rules[0].survey(Blocks(blocks, threads)))

        def write(tensor: Planned) -> None:
            _write(tensor, surveys, sink)
            if progress is not None:
                progress(tensor.nbytes)

        for _ in Blocks(plan.tensors, threads).map(write):  # pyright: ignore[reportArgumentType]
            pass


def _write(tensor: Planned, surveys: Mapping[int, Any], sink: Sink) -> None:
    if tensor.copied is not None:
        source, numel = tensor.copied, tensor.shape.numel()
        for start in range(0, numel, CHUNK):
            values = source.part(start, min(start + CHUNK, numel))
            if source.dtype.is_floating_point:
                values = values.to(arithmetic([source]))
                values = _stored(values, tensor, ["base"], f"{source} holds NaN or infinity")
            sink.write(tensor.name, start, values)
        return
    assert tensor.rule is not None
    pieces = [(tensor.rule, block, surveys[id(tensor.rule)]) for block in tensor.blocks]
    first = 0
    for rule, block, survey in [*pieces, *((BEYOND, block, None) for block in tensor.beyond)]:
        wrong = f"{type(rule).__name__} gives NaN or infinity in tensor {tensor.name!r}"
        for start, values in merged(rule, block, survey):
            stored = _stored(values, tensor, block.names, wrong)
            sink.write(tensor.name, first + start, stored.reshape(-1))
        first += block.numel


def _stored(values: Tensor, tensor: Planned, names: Sequence[str], wrong: str) -> Tensor:
    """Values in the dtype of the tensor, finite still; `wrong` says whose they are where they are not."""
    highest = float(values.abs().amax()) if values.numel() else 0.0
    if not isfinite(highest):
        raise NonFiniteDirection(names, wrong)
    if highest > torch.finfo(tensor.dtype).max:
        words = f"tensor {tensor.name!r} goes beyond what {tensor.dtype} holds; choose another dtype"
        raise NonFiniteDirection(names, words)
    return values.to(tensor.dtype)


def merged(rule: MergeRule, block: Block, survey: Any) -> Iterator[tuple[int, Tensor]]:
    """The merged values of a block, part by part, each with the element at which it starts."""
    measured = rule.measure(block, survey)
    parts = iter([block.whole()]) if rule.whole else block.parts(by_row=rule.by_row)
    for part in parts:
        yield part.start, rule.merge(part, measured)


def thread_count(threads: int | None) -> int:
    """The threads that a merge has where none or a number is asked for."""
    return threads or min(8, os.cpu_count() or 1)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let torch use one thread for an operation: tensors go side by side, and sums keep their order.

    Parts are too small to be shared out again, and a result must not hang on the number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
