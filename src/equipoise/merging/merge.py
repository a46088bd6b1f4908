"""merge: one model from many, from files or from memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from equipoise.core.errors import NonFiniteDirection, check_choice
from equipoise.core.tensorfile import TensorFile, named
from equipoise.merging.alike import alike
from equipoise.merging.block import CHUNK, Blocks, finite
from equipoise.merging.claim import vacant
from equipoise.merging.companions import companion_notes, companions
from equipoise.merging.engine import Memory, Progress, one_thread_each, run, thread_count
from equipoise.merging.matching import OnMissing, Vocab, Wanted
from equipoise.merging.mergerule import MergeRule
from equipoise.merging.methods import method_named
from equipoise.merging.plan import Plan, Planned, arithmetic, plan
from equipoise.merging.provenance import Hashes, metadata, model_card
from equipoise.merging.report import shown
from equipoise.merging.source import Checkpoint, Model, Reading, Source, open_model
from equipoise.merging.statistics import check_statistics
from equipoise.merging.writer import SHARD, ModelWriter

Method = MergeRule | str | Callable[[str], MergeRule]
"""A merging rule, the name of one, or a function that gives the rule of each tensor by its name.

Equal rules are one rule: a global threshold is one for all tensors that have it.
"""


def merge(
    checkpoints: Mapping[str, Model] | Sequence[Model],
    base: Model | None = None,
    *,
    method: Method,
    out: str | Path | None = None,
    statistics: Mapping[str, Model] | None = None,
    dtype: torch.dtype | None = None,
    precision: torch.dtype | None = None,
    on_missing: OnMissing = "fail",
    vocab: Vocab = "fail",
    check: bool = False,
    reading: Reading = "map",
    pickles: bool = False,
    shard_size: int = SHARD,
    hashes: Hashes = "sampled",
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Merge models into one; written to the folder `out`, else given back as a `state_dict`.

    Nothing but parts of tensors is held in memory where `out` is given, and an empty mapping comes back.
    Beside the model stand a model card and, where a model is a folder, its config and tokenizer.
    `method`: a merging rule, the name of one, or a function that gives the rule of each tensor by its name;
    equal rules are one rule, so a global threshold is one for all tensors that have it.
    `dtype`: of the merged model, by default as stored; `precision`: of the arithmetic. `statistics`: for each
    model what was measured of it, where the method asks for that; tensors without are averaged.

    `on_missing`: a tensor that a model lacks is an error, or the base's in its place ("base"), or merged from
    the others ("skip"); one that the base lacks is left out by "base". `vocab`: for embeddings and heads with
    unlike numbers of rows, keep those that all have ("intersect"), or merge each row of those who have it
    ("union"). Rows are matched by place, so tokenizers must agree on those that are shared; they are compared
    where folders hold a tokenizer.json.

    `check` reads everything first, so that values that are not finite are all told before anything is
    written. `reading`: by memory map, or "read" where no page of a file may stay resident. `pickles` allows
    files of `torch.save` by name, loaded with `weights_only=True`. `hashes`: what of the sources is hashed.

    Raises ValueError where models do not match or are all equal to the base, or where the method needs what
    is not given, or an option is none of its choices; NonFiniteDirection where values are not finite, or more
    than the dtype of the merged model holds; FileExistsError where `out` holds something or is being written;
    OSError where the disk is too small for it.

    >>> models = [{"w": torch.zeros(2)}, {"w": torch.ones(2)}]
    >>> merge(models, method="average")["w"]
    tensor([0.5000, 0.5000])
    """
    if out is not None:
        vacant(out)
    found = prepare(
        checkpoints,
        base,
        method=method,
        statistics=statistics,
        dtype=dtype,
        precision=precision,
        on_missing=on_missing,
        vocab=vocab,
        reading=reading,
        pickles=pickles,
    )
    return carry_out(
        found, out, check=check, shard_size=shard_size, hashes=hashes, threads=threads, progress=progress
    )


def prepare(
    checkpoints: Mapping[str, Model] | Sequence[Model],
    base: Model | None = None,
    *,
    method: Method,
    statistics: Mapping[str, Model] | None = None,
    dtype: torch.dtype | None = None,
    precision: torch.dtype | None = None,
    on_missing: OnMissing = "fail",
    vocab: Vocab = "fail",
    reading: Reading = "map",
    pickles: bool = False,
    wanted: Sequence[Wanted] | None = None,
    equal: bool = False,
) -> Plan:
    """All that is known before the first tensor is merged, with notes; options are those of `merge`.

    `wanted`: the tensors of the merged model and their names in the models, by default equal names. `equal`:
    whether the models may all be equal to the base, so that there is nothing to merge.

    Raises ValueError with all faults that were found.
    """
    models = opened(checkpoints, reading=reading, pickles=pickles)
    origin = None if base is None else open_model(base, "base", reading=reading, pickles=pickles)
    known = {
        name: open_model(found, f"statistics of {name}", reading=reading)
        for name, found in (statistics or {}).items()
    }
    found = plan(
        models,
        origin,
        _rules(method, tuple(models)),
        dtype=dtype,
        precision=precision,
        statistics=known,
        on_missing=on_missing,
        vocab=vocab,
        wanted=wanted,
    )
    measured = check_statistics(found, known)
    notes = [
        *found.notes,
        *measured,
        *(_twins(found, equal) if wanted is None else ()),
        *companion_notes(found),
    ]
    return replace(found, notes=tuple(notes))


def carry_out(
    found: Plan,
    out: str | Path | None = None,
    *,
    check: bool = False,
    shard_size: int = SHARD,
    hashes: Hashes = "sampled",
    config: Mapping[str, Any] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Do what was prepared; options are those of `merge`, and `config` is put into config.json.

    Raises ValueError where an option is none of its choices, and what `merge` does.
    """
    check_choice("hashes", hashes, get_args(Hashes))
    if shard_size < 1 or (threads is not None and threads < 1):
        raise ValueError(f"shard_size is {shard_size} and threads {threads}; both must be at least 1")
    if out is not None:
        out = vacant(out)
    threads = thread_count(threads)
    if check:
        check_finite(found, threads)
    if out is None:
        memory = Memory(found)
        run(found, memory, threads=threads, progress=progress)
        return memory.tensors
    said = metadata(found, hashes)
    with ModelWriter(out, found, metadata=said, shard_size=shard_size) as writer:
        run(found, writer, threads=threads, progress=progress)
        for name, content in companions(found, config):
            writer.add(name, content)
        writer.add("README.md", model_card(found, out.name, said))
    return {}


def opened(
    checkpoints: Mapping[str, Model] | Sequence[Model], *, reading: Reading = "map", pickles: bool = False
) -> dict[str, Checkpoint]:
    """The models by name; those given in a sequence are named after their files, or model_0, model_1 ...

    Raises ValueError where there is none, or two have one name.
    """
    if isinstance(checkpoints, str | Path):
        raise TypeError(f"checkpoints is the one path {checkpoints}; give a sequence or mapping of models")
    if not isinstance(checkpoints, Mapping):
        paths = [model for model in checkpoints if isinstance(model, str | Path)]
        files = iter(named(paths) if paths else ())
        names = [
            next(files) if isinstance(model, str | Path) else f"model_{i}"
            for i, model in enumerate(checkpoints)
        ]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two models are called {', '.join(twice)}; name them by a mapping")
        checkpoints = dict(zip(names, checkpoints, strict=True))
    if not checkpoints:
        raise ValueError("no models to merge")
    return {
        name: open_model(model, name, reading=reading, pickles=pickles) for name, model in checkpoints.items()
    }


def check_finite(found: Plan, threads: int = 1) -> None:
    """Read all tensors of models and base. Raises NonFiniteDirection naming each that is not finite."""

    def faults(tensor: Planned) -> list[tuple[str, str]]:
        held = [
            (name, source, block.dtype)
            for block in (*tensor.blocks, *tensor.beyond)
            for name, source in (*zip(block.names, block.sources, strict=True), ("base", block.origin))
        ]
        if tensor.copied is not None and tensor.copied.dtype.is_floating_point:
            held.append(("base", tensor.copied, arithmetic([tensor.copied])))
        return [
            (name, f"{source} holds NaN or infinity")
            for name, source, dtype in held
            if source is not None and not _finite(source, dtype)
        ]

    with one_thread_each():
        some = Blocks(found.tensors, threads).map(faults)  # pyright: ignore[reportArgumentType]
        wrong = list(dict.fromkeys(fault for faults in some for fault in faults))
    if wrong:
        names = dict.fromkeys(name for name, _ in wrong)
        raise NonFiniteDirection(names, "\n".join(shown(list(dict.fromkeys(words for _, words in wrong)))))


def _finite(source: Source, dtype: torch.dtype) -> bool:
    """Whether a tensor is finite in the dtype of the arithmetic."""
    numel = prod(source.shape)
    parts = (source.part(start, min(start + CHUNK, numel)) for start in range(0, numel, CHUNK))
    return all(finite(part.to(dtype)) for part in parts)


def _rules(method: Method, names: Sequence[str]) -> Callable[[str], MergeRule]:
    if isinstance(method, str):
        method = method_named(method)
    if isinstance(method, MergeRule):
        rule = method.bound(names)
        return lambda _: rule
    known: dict[int, tuple[MergeRule, MergeRule]] = {}  # as given too, so that its id stays its own
    distinct: list[MergeRule] = []

    def rule_of(tensor: str) -> MergeRule:
        found = method(tensor)
        if id(found) not in known:
            rule = found.bound(names)
            if rule not in distinct:
                distinct.append(rule)
            known[id(found)] = found, distinct[distinct.index(rule)]
        return known[id(found)][1]

    return rule_of


def _twins(found: Plan, equal: bool) -> list[str]:
    """Which models are the same. Raises ValueError where all are files and each equals the base."""
    groups = alike(found.matches, found.names)
    stored = not equal and all(isinstance(model, TensorFile) for model in found.checkpoints.values())
    if stored and any(len(group) == len(found.names) + 1 for group in groups):
        files = ", ".join(str(model.path) for model in found.checkpoints.values())
        assert found.base is not None
        raise ValueError(f"nothing to merge: {files} hold what the base {found.base.path} holds")
    return [
        "models with equal values: " + ", ".join("the base" if one is None else one for one in group)
        for group in groups
    ]
