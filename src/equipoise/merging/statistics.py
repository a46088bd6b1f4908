"""Files of what was measured of models for merging: written with their kind, refused under another."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from equipoise.core.errors import unknown
from equipoise.core.tensorfile import write_tensors
from equipoise.merging.block import Block
from equipoise.merging.mergerule import MergeRule
from equipoise.merging.plan import Plan
from equipoise.merging.report import shown
from equipoise.merging.source import Checkpoint

Kind = Literal["gram", "fisher"]
KINDS: tuple[str, ...] = get_args(Kind)
FORMAT = "equipoise.statistics"
VERSION = "1"


def write_statistics(
    path: str | Path, kind: Kind, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> Path:
    """Write the statistics of one kind to a safetensors file, atomically; `facts` go into its header.

    facts: numbers, texts and lists by name, such as the samples that were seen.
    """
    said = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    path = Path(path)
    write_tensors(path, tensors.items(), {"format": FORMAT, "version": VERSION, "kind": kind, **said})
    return path


def kind_of(checkpoint: Checkpoint) -> str | None:
    """The kind that a file of statistics says it holds; None where it says nothing, as tensors in memory do.

    Raises ValueError for a file that some other version or program wrote under the same header.
    """
    found = checkpoint.metadata
    if found.get("format") != FORMAT:
        return None
    if found.get("version") != VERSION or found.get("kind") not in KINDS:
        said = f"version {found.get('version')!r}, kind {found.get('kind')!r}"
        raise ValueError(f"{checkpoint.path}: statistics that cannot be read here: its header says {said}")
    return found["kind"]


def check_statistics(found: Plan, statistics: Mapping[str, Checkpoint]) -> list[str]:
    """Compare the statistics of each model with what the rules of a plan ask for; what is to be noted.

    Raises ValueError naming models, files, tensors and shapes where statistics belong to no model, are of
    another kind or shape than asked for, or where a model, or every tensor, has none.
    """
    for name in statistics:
        if name not in found.names:
            raise ValueError(f"statistics: {unknown('model', name, found.names)}")
    asked: dict[str, list[tuple[MergeRule, Block]]] = {}
    for rule, blocks in found.by_rule():
        if rule.statistic is not None:
            asked.setdefault(rule.statistic, []).extend((rule, block) for block in blocks)
    _check_kinds({kind: type(own[0][0]).__name__ for kind, own in asked.items() if own}, statistics)
    notes = []
    for kind, own in asked.items():
        faults = [fault for _, block in own for fault in _misshapen(kind, block)]
        if faults:
            raise ValueError("statistics do not fit:\n" + "\n".join(shown(faults)))
        without = [block for _, block in own if not block.statistics]
        if own:
            _check_any(type(own[0][0]).__name__, kind, [block for _, block in own], statistics)
        if without:
            words = ", ".join(shown([block.name for block in without]))
            notes.append(f"averaged, as not every model has statistics ({kind}) for them: {words}")
    return notes


def _check_kinds(asked: Mapping[str, str], statistics: Mapping[str, Checkpoint]) -> None:
    """Refuse statistics of a kind that none of the rules asks for; `asked`: kind -> rule."""
    for name, checkpoint in statistics.items():
        kind = kind_of(checkpoint)
        if kind is not None and asked and kind not in asked:
            wanted = " and ".join(f"{rule} asks for {one!r}" for one, rule in asked.items())
            raise ValueError(f"statistics of {name}: {checkpoint.path} holds {kind!r}, but {wanted}")


def _check_any(rule: str, kind: str, blocks: Sequence[Block], statistics: Mapping[str, Checkpoint]) -> None:
    """Refuse models without statistics for any of the blocks, and blocks none of which has them of all."""
    held = {name: False for block in blocks for name in block.names}
    for block in blocks:
        for name, source in zip(block.names, block.sources, strict=True):
            held[name] = held[name] or source.tensor in statistics.get(name, ())
    if lost := [name for name, some in held.items() if not some]:
        files = [f"{statistics[name].path} holds none of its tensors" for name in lost if name in statistics]
        words = f" ({'; '.join(files)})" if files else ""
        raise ValueError(
            f"{rule} asks for statistics ({kind!r}) of each model, and {', '.join(lost)} has none{words}; "
            "measure them with calibrate"
        )
    if not any(block.statistics for block in blocks):
        raise ValueError(f"{rule} asks for statistics ({kind!r}), and no tensor has them of every model")


def _misshapen(kind: str, block: Block) -> Iterator[str]:
    """What is wrong with the shapes of the statistics of a block."""
    for name, source, held in zip(block.names, block.sources, block.statistics, strict=False):
        shape = source.checkpoint.shape(source.tensor)
        side = shape[1:].numel()
        wanted = shape if kind == "fisher" else torch.Size([side, side])
        given = held.checkpoint.shape(held.tensor)
        if given != wanted or (kind == "gram" and len(shape) < 2):
            told = tuple(wanted) if kind == "fisher" or len(shape) > 1 else "for layers of two axes or more"
            yield (
                f"{held} (of {name}) has shape {tuple(given)}; the tensor is {tuple(shape)}, so {kind!r} is "
                f"{told}"
            )


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and values, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_kind_names(kinds: Sequence[str]) -> None:
    """Raises ValueError unless all are kinds of statistics and there is one at least."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ValueError(f"kinds are {tuple(kinds)}; known are {', '.join(KINDS)}")


def under_all_names(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the first names of a model's parameters, by all names that tied ones have."""
    named = dict(model.named_parameters(remove_duplicate=False))
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    return {name: tensors[first[id(p)]] for name, p in named.items() if first[id(p)] in tensors}
