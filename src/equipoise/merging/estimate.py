"""What a merge will read, write, hold in memory and take in time, before it is begun."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from math import prod
from time import perf_counter, thread_time

import torch

from equipoise.merging.block import CHUNK, Block, Blocks
from equipoise.merging.engine import merged, one_thread_each
from equipoise.merging.mergerule import MergeRule
from equipoise.merging.plan import Plan

SUPPOSED = 2e-10
"""Seconds for a unit of a rule's cost, until something was tried."""

CLEAR = 0.005
"""Seconds of a trial beside which what every tensor costs, however small, is little."""


@dataclass(frozen=True)
class Estimate:
    """What is planned: `rules` are method with options, number of tensors and bytes written by each.

    `read`: bytes of all sources and statistics, once; some methods read them twice. `memory`: of what is held
    beside pages of the files. `seconds`: of the arithmetic, from a trial; None where none was made.
    """

    rules: tuple[tuple[str, int, int], ...]
    copied: int
    read: int
    written: int
    memory: int
    threads: int
    seconds: float | None


def estimate(plan: Plan, *, threads: int, trial: float = 1.0) -> Estimate:
    """The estimate of a plan; about `trial` seconds go into merging its smaller tensors, into nowhere."""
    rules = []
    for rule, _ in plan.by_rule():
        own = [tensor for tensor in plan.tensors if tensor.rule is rule]
        rules.append((described(rule), len(own), sum(tensor.nbytes for tensor in own)))
    held = sorted((_held(rule, block) for rule, blocks in plan.by_rule() for block in blocks), reverse=True)
    return Estimate(
        tuple(rules),
        sum(tensor.copied is not None for tensor in plan.tensors),
        _read(plan),
        plan.nbytes,
        sum(held[:threads]),
        threads,
        None
        if trial <= 0
        else sum(_seconds(*pair, trial / max(1, len(rules))) for pair in plan.by_rule()) / threads,
    )


def described(rule: MergeRule) -> str:
    """A rule by its name and the options that differ from the defaults."""
    told = [
        f"{field.name}={value}" if not isinstance(value, MergeRule) else f"{field.name}={described(value)}"
        for field in fields(rule)  # pyright: ignore[reportArgumentType]
        if (value := getattr(rule, field.name)) != field.default
    ]
    return f"{type(rule).__name__}({', '.join(told)})"


def _read(plan: Plan) -> int:
    total = 0
    for tensor in plan.tensors:
        sources = [one for block in tensor.blocks for one in (*block.sources, *block.statistics)]
        sources += [block.origin for block in tensor.blocks if block.origin is not None]
        sources += [tensor.copied] if tensor.copied is not None else []
        total += sum(prod(source.shape) * source.dtype.itemsize for source in sources)
    return total


def _held(rule: MergeRule, block: Block) -> int:
    """Bytes in memory while a tensor is merged: rows and base of a part or of all, and the rule's copies."""
    own = type(rule).measure is not MergeRule.measure or rule.whole
    part = block.numel if rule.whole else min(CHUNK, block.numel)
    rows = (len(block) + (block.origin is not None) + 1) * part
    elements = rows + rule.copies * (block.numel if own else part)
    return int(elements * block.dtype.itemsize) + rule.beside(block)


def _seconds(rule: MergeRule, blocks: Iterable[Block], trial: float) -> float:
    """Of one thread, at the rate of the largest tensor tried, or of the first rows of one that takes long.

    Nothing is tried of which the rate known by then says that it takes longer than what is left of `trial`;
    one that is only supposed is taken to be ten times too fast.
    """
    blocks = sorted(blocks, key=rule.cost)
    total, left, rate, care = sum(map(rule.cost, blocks)), trial, SUPPOSED, 10.0
    with one_thread_each(), torch.no_grad():
        for block in blocks:
            tried = 0
            while tried < block.numel:
                some = _cut(rule, block, left / (rate * care))
                cost = rule.cost(some)
                if some.numel <= tried or cost * rate * care > left:
                    return rate * total
                begun, before = perf_counter(), thread_time()
                for _ in merged(rule, some, rule.survey(Blocks([some]))):
                    pass
                taken, tried = thread_time() - before, some.numel
                left -= perf_counter() - begun
                if taken > CLEAR:
                    rate = taken / cost
                if taken > CLEAR or some is not block:
                    care = 1.0
    return rate * total


def _cut(rule: MergeRule, block: Block, cost: float) -> Block:
    """As many of the first rows of a block as cost no more than so much, one at least."""
    while rule.cost(block) > cost and block.shape and block.shape[0] > 1:
        rows = block.shape[0] // 2
        shape = torch.Size([rows, *block.shape[1:]])
        block = replace(
            block,
            shape=shape,
            sources=tuple(replace(source, rows=rows) for source in block.sources),
            origin=None if block.origin is None else replace(block.origin, rows=rows),
            statistics=tuple(
                replace(source, rows=rows) if rule.statistic == "fisher" else source
                for source in block.statistics
            ),
        )
    return block
