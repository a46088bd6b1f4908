"""Plan: the tensors of the merged model, each with the blocks it is made of and the rule that makes it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch

from equipoise.core.errors import check_choice
from equipoise.core.tensorfile import LABELS
from equipoise.merging.average import Average
from equipoise.merging.block import Block
from equipoise.merging.layers import layers_of
from equipoise.merging.matching import Match, Matching, OnMissing, Piece, Vocab, Wanted
from equipoise.merging.mergerule import MergeRule
from equipoise.merging.source import Checkpoint, Source

RuleFor = Callable[[str], MergeRule]
"""The rule of each tensor of the merged model; the same object where it is the same rule."""

BEYOND = Average()
"""The rule of rows that the base lacks, where the rule of the tensor starts from a base."""


@dataclass(frozen=True)
class Planned:
    """One tensor of the merged model: merged from its blocks, one below the other, or copied.

    `dtype` is that in which it is written. `beyond` are rows below those of the blocks: rows that the base
    lacks, averaged over the models that have them, where the rule starts from a base; or rows that the base
    alone has.
    """

    name: str
    shape: torch.Size
    dtype: torch.dtype
    rule: MergeRule | None
    blocks: tuple[Block, ...] = ()
    copied: Source | None = None
    beyond: tuple[Block, ...] = ()

    @property
    def nbytes(self) -> int:
        """The bytes that it takes."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Plan:
    """All tensors of the merged model in the order in which they are written, and what was noticed."""

    tensors: tuple[Planned, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    matches: tuple[Match, ...] = ()
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)
    base: Checkpoint | None = None

    @property
    def nbytes(self) -> int:
        """The bytes of the merged model."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def by_rule(self) -> Iterator[tuple[MergeRule, list[Block]]]:
        """Each rule with the blocks that it merges."""
        found: dict[int, tuple[MergeRule, list[Block]]] = {}
        for tensor in self.tensors:
            if tensor.rule is not None:
                found.setdefault(id(tensor.rule), (tensor.rule, []))[1].extend(tensor.blocks)
        yield from found.values()

    def surveys(self) -> Iterator[tuple[list[MergeRule], list[Block]]]:
        """Rules that share a survey, with the blocks that it goes over."""
        everywhere: dict[type[MergeRule], list[Block]] = {}
        shared: list[tuple[Any, list[MergeRule], list[Block]]] = []
        for tensor in self.tensors:
            if tensor.rule is not None and tensor.rule.surveyed_alike() is not None:
                everywhere.setdefault(type(tensor.rule), []).extend(tensor.blocks)
        for rule, blocks in self.by_rule():
            key = rule.surveyed_alike()
            if key is None:
                yield [rule], blocks
                continue
            for known, rules, _ in shared:
                if type(rules[0]) is type(rule) and known == key:
                    rules.append(rule)
                    break
            else:
                shared.append((key, [rule], everywhere[type(rule)]))
        yield from ((rules, blocks) for _, rules, blocks in shared)


def plan(
    checkpoints: Mapping[str, Checkpoint],
    base: Checkpoint | None,
    rule_for: RuleFor,
    *,
    dtype: torch.dtype | None = None,
    precision: torch.dtype | None = None,
    statistics: Mapping[str, Checkpoint] | None = None,
    on_missing: OnMissing = "fail",
    vocab: Vocab = "fail",
    wanted: Sequence[Wanted] | None = None,
) -> Plan:
    """Match the tensors of all models by name, and say what becomes of each; headers alone are read.

    `dtype` is that of the merged model, by default what the base (or the first model) stores for each
    tensor; `precision` that of the arithmetic, by default float64 where any source is, else float32.
    `on_missing` and `vocab`: what becomes of tensors that a model lacks and of unlike numbers of tokens.
    `wanted`: the tensors of the merged model and their names in the models, by default equal names.

    Raises ValueError, naming files and tensors, for tensors that are missing, extra or of another shape,
    unless a policy says what to do; for adapters and quantised weights; for a rule that starts from a base
    where there is none; and for a dtype or a policy that is none of the choices.
    """
    if dtype is not None and not (dtype in LABELS and dtype.is_floating_point):
        raise ValueError(f"dtype is {dtype}; choose one of floating point that safetensors holds")
    check_choice("precision", precision, (None, torch.float32, torch.float64))
    matching = Matching(checkpoints, base, on_missing=on_missing, vocab=vocab, wanted=wanted)
    places = layers_of(match.name for match in matching.tensors)
    tensors = []
    for match in matching.tensors:
        if match.copied is not None:
            kind = dtype if dtype is not None and match.dtype.is_floating_point else match.dtype
            tensors.append(Planned(match.name, match.shape, kind, None, copied=match.copied))
            continue
        rule = rule_for(match.name)
        blocks, beyond = [], []
        for piece in match.pieces:
            block = _block(match.name, piece, precision, places, statistics or {}, rule)
            if piece.sources and (piece.origin is not None or not rule.needs_base):
                blocks.append(block)
            elif blocks:
                beyond.append(block)
            else:
                matching.report.faults.append(_no_base(match.name, rule, base))
        tensors.append(
            Planned(match.name, match.shape, dtype or match.dtype, rule, tuple(blocks), None, tuple(beyond))
        )
        if rows := sum(block.shape[0] for block in beyond if block.origin is None):
            words = f"{rows} rows that the base lacks are averaged over those who have them"
            matching.report.notes.append(f"tensor {match.name!r}: {words}")
    matching.report.refuse()
    return Plan(
        tuple(tensors),
        tuple(checkpoints),
        tuple(matching.report.notes),
        matching.tensors,
        checkpoints,
        base,
    )


def arithmetic(sources: Sequence[Source]) -> torch.dtype:
    """float64 where any source is, else float32."""
    return torch.float64 if any(source.dtype == torch.float64 for source in sources) else torch.float32


def _block(
    name: str,
    piece: Piece,
    precision: torch.dtype | None,
    places: Mapping[str, tuple[int, int]],
    statistics: Mapping[str, Checkpoint],
    rule: MergeRule,
) -> Block:
    sources = tuple(piece.sources.values())
    names = tuple(piece.sources)
    origin = piece.origin
    if not sources:  # rows that the base alone has stay as they are
        assert origin is not None
        names, sources = ("base",), (origin,)
    layer, layers = places.get(name, (None, 0))
    return Block(
        name,
        piece.shape,
        names,
        sources,
        origin,
        precision or arithmetic([*sources, *([origin] if origin else [])]),
        layer,
        layers,
        _statistics(statistics, piece, rule.statistic) if rule.statistic is not None else (),
    )


def _statistics(files: Mapping[str, Checkpoint], piece: Piece, kind: str) -> tuple[Source, ...]:
    """What was measured of each model in a piece, of its own rows alone where that goes by element."""
    found = []
    for model, source in piece.sources.items():
        file = files.get(model)
        if file is None or source.tensor not in file:
            return ()
        own = Source(file, source.tensor)
        found.append(replace(own, first=source.first, rows=source.rows) if kind == "fisher" else own)
    return tuple(found)


def _no_base(name: str, rule: MergeRule, base: Checkpoint | None) -> str:
    if base is None:
        return f"{type(rule).__name__} merges what was added to a base; name the base"
    return (
        f"tensor {name!r} is not in the base {base.path}, from which {type(rule).__name__} starts; "
        "on_missing='base' leaves it out"
    )
