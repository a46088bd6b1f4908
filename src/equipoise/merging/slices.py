"""Where each tensor of the merged model comes from: models as they are, or cut into slices of layers."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from equipoise.merging.layers import layers_of
from equipoise.merging.matching import Wanted
from equipoise.merging.resolved import Place
from equipoise.merging.source import Checkpoint, config_of
from equipoise.merging.specification import BASE, MergeSpecification, SliceSpecification, SourceSpecification

FIRST = ("embed", "embd", "wte", "wpe", "shared", "word_", "position", "patch", "rotary", "slopes")
"""Parts of the names of tensors that stand before the layers; what else is outside stands behind them."""
COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
KINDS = "layer_types"


@dataclass(frozen=True)
class Arranged:
    """The place of every tensor; with slices also their names in the models, and what config.json gets."""

    places: Mapping[str, Place]
    wanted: Sequence[Wanted] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


def arranged(
    specification: MergeSpecification, models: Mapping[str, Checkpoint], base: Checkpoint | None
) -> Arranged:
    """The places of all tensors of a specification.

    The layers of slices follow each other and are numbered anew. Tensors before the layers (embeddings) come
    from the models of the first slice, those behind them (head, last norm) from those of the last.

    Raises ValueError for layers that a model does not have, models with several stacks of layers, and slices
    of which some have a source of the base and some do not.
    """
    own = {name: model.options for name, model in specification.models.items()}
    if specification.slices:
        return _cut(specification.slices, models, base, own)
    files = (*([base] if base is not None else []), *models.values())
    names = dict.fromkeys(name for file in files for name in file)
    depths = _depths(names)
    scopes = {name: (options,) for name, options in own.items()}
    return Arranged(
        {name: Place(depths.get(name, 0.0), dict.fromkeys(models, name), scopes, {}) for name in names}
    )


def _cut(
    pieces: Sequence[SliceSpecification],
    models: Mapping[str, Checkpoint],
    base: Checkpoint | None,
    own: Mapping[str, Mapping[str, Any]],
) -> Arranged:
    based = [any(source.model == BASE for source in piece.sources) for piece in pieces]
    if any(based) and not all(based):
        raise ValueError(f"slice {based.index(False) + 1} has no layers of the base, and others have")
    files = {**models, **({BASE: base} if base is not None else {})}
    stacks = {name: _stack(file) for name, file in files.items()}
    places: dict[str, Place] = {}
    bases: dict[str, str] = {}
    start = 0
    for piece in pieces:
        ends = piece is pieces[0], piece is pieces[-1]
        for source in piece.sources:
            moved = _moved(files[source.model], source, stacks[source.model], start, ends)
            for name, tensor, depth in moved:
                place = places.setdefault(name, Place(depth, {}, {}, piece.options))
                if source.model == BASE:
                    bases[name] = tensor
                else:
                    scopes = (source.options, own[source.model])
                    places[name] = replace(
                        place,
                        tensors={**place.tensors, source.model: tensor},
                        own={**place.own, source.model: scopes},
                    )
        start += piece.sources[0].layers[1] - piece.sources[0].layers[0]
    wanted = [Wanted(name, place.tensors, bases.get(name)) for name, place in places.items()]
    return Arranged(places, wanted, _config(pieces, files))


def _moved(
    checkpoint: Checkpoint,
    source: SourceSpecification,
    stack: tuple[str, int],
    start: int,
    ends: tuple[bool, bool],
) -> Iterator[tuple[str, str, float]]:
    """The tensors that a source gives: name in the merged model, name in the source, depth in the slice."""
    prefix, layers = stack
    first, end = source.layers
    if end > layers:
        raise ValueError(f"{checkpoint.path} has {layers} layers; layers {[first, end]} are asked of it")
    for tensor in checkpoint:
        number, _, rest = tensor.removeprefix(prefix).partition(".")
        if tensor.startswith(prefix) and number.isdigit():
            at = int(number) - first
            if first <= int(number) < end:
                depth = at / (end - first - 1) if end - first > 1 else 1.0
                yield f"{prefix}{start + at}.{rest}", tensor, depth
        elif ends[0] if any(word in tensor for word in FIRST) and "embed_out" not in tensor else ends[1]:
            yield tensor, tensor, 0.0


def _stack(checkpoint: Checkpoint) -> tuple[str, int]:
    """The prefix of the layers, with its dot, and how many there are."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for name in checkpoint:
        words = name.split(".")
        at = next((i for i, word in enumerate(words[:-1]) if word.isdigit()), None)
        if at is not None:
            numbers["".join(f"{word}." for word in words[:at])].add(int(words[at]))
    stacks = {prefix: found for prefix, found in numbers.items() if len(found) > 1} or numbers
    if len(stacks) != 1:
        told = ", ".join(f"{prefix}* ({len(found)})" for prefix, found in stacks.items()) or "none"
        raise ValueError(f"{checkpoint.path}: slices need a model with one stack of layers; found {told}")
    ((prefix, found),) = stacks.items()
    return prefix, max(found) + 1


def _config(pieces: Sequence[SliceSpecification], files: Mapping[str, Checkpoint]) -> dict[str, Any]:
    """The number of layers, and the kind of each where the configuration lists them."""
    configs = {name: config_of(file) for name, file in files.items()}
    owner = configs.get(BASE) or next((config for config in configs.values() if config), {})
    layers = sum(piece.sources[0].layers[1] - piece.sources[0].layers[0] for piece in pieces)
    found: dict[str, Any] = {key: layers for key in COUNTS if key in owner}
    if isinstance(owner.get(KINDS), list):
        firsts = [piece.sources[0] for piece in pieces]
        kinds = [configs[source.model].get(KINDS) or owner[KINDS] for source in firsts]
        found[KINDS] = [
            kind
            for source, all_of in zip(firsts, kinds, strict=True)
            for kind in all_of[slice(*source.layers)]
        ]
    return found


def _depths(names: Iterable[str]) -> dict[str, float]:
    return {name: layer / (layers - 1) for name, (layer, layers) in layers_of(names).items()}
