"""A pool from live models: features of each are taken in turn, written to a folder, and read from there."""

import shutil
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast

import torch
from torch import nn

from equipoise.core.optional import require
from equipoise.core.tensorfile import TensorFile
from equipoise.transferability.features import Reduce, save_features
from equipoise.transferability.pool import FACTS, Pool, from_files

Model = nn.Module | str | Path | Callable[[], nn.Module]


def model_pool(
    models: Mapping[str, Model] | Iterable[tuple[str, Model]],
    batches: Callable[[], Iterable[Any]] | Iterable[Any],
    *,
    layer: str | Mapping[str, str] | None = None,
    reduce: Reduce | None = None,
    build: Callable[[], nn.Module] | None = None,
    facts: Mapping[str, Mapping[str, float]] | None = None,
    folder: str | Path | None = None,
    numbers: bool = False,
) -> Pool:
    """Take the features of every model on a target, one model in memory at a time, and give the pool.

    models: by name, an `nn.Module`; a function without arguments that builds one; a folder that
    `transformers` saved, read by `AutoModel` without a network; or, with `build`, safetensors (a file, an
    index, a folder) that are loaded into what `build()` gives. So the checkpoints of a run are a pool,
    a federated one among them: its clients' modules by name, or the folder where it saved them. Pairs from a
    generator do as well.

    batches: as for `extract_features`; a function is called for every model, anything else is iterated anew
    for each and so must be no generator. layer: one for all, or by name. facts: numbers about models by
    name, higher is better, such as {"resnet": {"source accuracy": 0.8}}. folder: where NAME.npz are written;
    what lies there besides is not looked at. By default a temporary one that lives as long as the pool or one
    made of it. numbers: the labels are numbers, for regression, whatever their type (`Sample`).

    Raises ValueError, naming the model, for what cannot be built, run or saved.
    """
    if isinstance(batches, Iterator):
        raise ValueError("batches are an iterator, which ends after one model; give a list or a function")
    place = Path(mkdtemp(prefix="equipoise-pool-") if folder is None else folder)
    place.mkdir(parents=True, exist_ok=True)
    try:
        names = _saved(place, models, batches, layer, reduce, build, facts or {})
    except BaseException:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)
        raise
    told = {fact: None for numbers in (facts or {}).values() for fact in numbers}
    owner = _Owner()
    if folder is None:
        weakref.finalize(owner, shutil.rmtree, place, ignore_errors=True)
    files = [place / f"{name}.npz" for name in names]
    return from_files(files, None, dict.fromkeys([*FACTS, *told]), owner, numbers=numbers)


class _Owner:
    """Who needs the temporary folder: it is removed when no pool holds this any more."""


def _saved(
    place: Path,
    models: Mapping[str, Model] | Iterable[tuple[str, Model]],
    batches: Any,
    layer: str | Mapping[str, str] | None,
    reduce: Reduce | None,
    build: Callable[[], nn.Module] | None,
    facts: Mapping[str, Mapping[str, float]],
) -> list[str]:
    """Write the features of every model; its names."""
    written: list[str] = []
    pairs = models.items() if isinstance(models, Mapping) else models
    for name, model in cast(Iterable[tuple[str, Model]], pairs):
        if not name or name.startswith(".") or any(sign in name for sign in '/\\:*?"<>|'):
            raise ValueError(f"the model name {name!r} cannot be that of a file; use letters, digits, - _ .")
        if name in written:
            raise ValueError(f"two models are called {name}")
        try:
            save_features(
                place / f"{name}.npz",
                built(model, build),
                batches() if callable(batches) else batches,  # pyright: ignore[reportArgumentType]
                layer=layer.get(name) if isinstance(layer, Mapping) else layer,
                reduce=reduce,
                facts=facts.get(name),
            )
        except Exception as error:  # of the user's model or data, and none tells the model's name
            words = " ".join(str(error).split())
            told = isinstance(error, ValueError | RuntimeError | ImportError) and words
            kind = "" if told else f"{type(error).__name__}: "
            raise ValueError(f"{name}: {kind}{words}") from error
        written.append(name)
        del model
    if not written:
        raise ValueError("the pool holds no models")
    return written


def built(model: Model, build: Callable[[], nn.Module] | None = None) -> nn.Module:
    """The module of a model that is given as it is, as a function, as a folder or as safetensors."""
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, str | Path):
        path = Path(model)
        if build is not None:
            return _loaded(path, build())
        if not (path / "config.json").is_file():
            raise ValueError(
                f"{path} is no folder of a transformers model (it has no config.json); give `build` as well, "
                "a function that makes the module its safetensors belong to"
            )
        return require("transformers", "hf").AutoModel.from_pretrained(
            path, local_files_only=True, use_safetensors=True
        )
    found = model()
    if not isinstance(found, nn.Module):
        raise ValueError(f"the function of the model gave {type(found).__name__}, not an nn.Module")
    return found


def _loaded(path: Path, module: nn.Module) -> nn.Module:
    file = TensorFile(path)
    with torch.no_grad():
        module.load_state_dict({name: file[name] for name in file})
    return module
