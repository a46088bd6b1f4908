"""What `select models` reads: functions of the user's files, targets, tables of truths and static facts."""

import csv
import json
import sys
from collections.abc import Callable, Collection, Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import typer

ARRAYS = (".npz", ".npy", ".safetensors")
Table = dict[str, dict[str, float]]


def is_function(reference: str) -> bool:
    """Whether a function is named, as module:function or FILE.py:function."""
    place, colon, name = reference.rpartition(":")
    return bool(colon and place) and name.isidentifier() and not Path(reference).exists()


def function(reference: str, option: str) -> Callable[[], Any]:
    """The function that is named as module:function or FILE.py:function; the file is run.

    Raises BadParameter where there is none, ValueError, naming file and error, where it does not import.
    """
    place, _, name = reference.rpartition(":")
    path = Path(place)
    try:
        if path.suffix == ".py":
            if not path.is_file():
                raise typer.BadParameter(f"{option}: there is no file {place}")
            spec = spec_from_file_location(f"equipoise_user_{path.stem}", path.resolve())
            assert spec is not None
            assert spec.loader is not None
            module = module_from_spec(spec)
            sys.modules[spec.name] = module
            sys.path.append(str(path.resolve().parent))
            spec.loader.exec_module(module)
        else:
            sys.path.insert(0, str(Path.cwd()))
            module = import_module(place)
    except typer.BadParameter:
        raise
    except Exception as error:
        raise ValueError(f"{place} does not import: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        given = ", ".join(n for n, v in vars(module).items() if callable(v) and n[0] != "_") or "none"
        raise typer.BadParameter(f"{option}: {place} has no function {name}; it has {given}")

    def call() -> Any:
        try:
            return found()
        except Exception as error:
            raise ValueError(f"{reference}: {type(error).__name__}: {error}") from error

    return call


def labels_of(target: str) -> Any:
    """The labels of a target: `labels` of .npz or .safetensors, an .npy, or what a function gives."""
    if is_function(target):
        return function(target, "--target")()
    path = _file(target, "--target", ARRAYS)
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    return _array(path, "labels")


def batches_of(target: str, size: int) -> Callable[[], Iterator[Any]]:
    """Batches of a target: `inputs` and `labels` of .npz or .safetensors, or what a function gives.

    A file without `inputs` gives what it holds besides labels to the model by name.
    """
    if is_function(target):
        call = function(target, "--target")

        def given() -> Iterator[Any]:
            found = call()
            if not hasattr(found, "__iter__"):
                raise ValueError(f"{target} gave {type(found).__name__}; give batches, as a DataLoader does")
            yield from found

        return given
    path = _file(target, "--target", (".npz", ".safetensors"))
    import torch

    held = _names(path)
    if "inputs" in held and "attention_mask" in held:
        raise ValueError(
            f"{path} holds an attention_mask beside inputs; call these as the model calls them, such as "
            "input_ids, and both go to it by name"
        )
    named = [] if "inputs" in held else [name for name in held if name != "labels"]
    inputs = {name: torch.from_numpy(np.array(_array(path, name))) for name in named or ["inputs"]}
    labels = _array(path, "labels")
    for name, tensor in inputs.items():
        if len(tensor) != len(labels):
            raise ValueError(f"{path}: {name} of {len(tensor)} samples, labels of {len(labels)}")

    def batches() -> Iterator[Any]:
        for start in range(0, len(labels), size):
            rows = {name: tensor[start : start + size] for name, tensor in inputs.items()}
            yield rows if named else rows["inputs"], labels[start : start + size]

    return batches


def truth_of(path: Path) -> dict[str, float]:
    """Accuracies by model: a JSON object, or CSV with the model first and the accuracy second.

    Raises ValueError, naming file and line.
    """
    if path.suffix.lower() == ".json":
        return _numbers(path, _json(path), "the accuracy of")
    found: dict[str, float] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.reader(file), 1):
            cells = [cell.strip() for cell in row]
            value = None if len(cells) < 2 else _number(cells[1])
            if not any(cells) or (line == 1 and len(cells) > 1 and value is None):
                continue
            if value is None or not np.isfinite(value):
                raise ValueError(f"{path}, line {line}: {','.join(row)!r} is not a model and its accuracy")
            if cells[0] in found:
                raise ValueError(f"{path}, line {line}: the model {cells[0]} stands there twice")
            found[cells[0]] = value
    if not found:
        raise ValueError(f"{path} holds no models and accuracies")
    return found


def static_of(path: Path, models: Collection[str]) -> tuple[Table, Table]:
    """Static columns, and the history of other targets under "history", from a JSON object.

    It maps columns to numbers by model, or models to numbers by column.
    """
    content = _json(path)
    history = content.pop("history", {})
    by_model = bool(content) and all(name in models for name in content)
    columns: Table = {}
    for outer, inner in content.items():
        for name, value in _numbers(path, inner, f"{outer}:").items():
            column, model = (name, outer) if by_model else (outer, name)
            columns.setdefault(column, {})[model] = value
    if not isinstance(history, dict):
        raise ValueError(f"{path}: history maps targets to accuracies by model, not {type(history).__name__}")
    return columns, {
        target: _numbers(path, found, f"history, {target}:") for target, found in history.items()
    }


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {type(found).__name__}; give an object of names")
    return found


def _numbers(path: Path, found: Any, what: str) -> dict[str, float]:
    if not isinstance(found, dict):
        raise ValueError(f"{path}: {what} {found!r} is no object of numbers by name")
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise ValueError(f"{path}: {what} {name} is {value!r}, which is no number")
    return {name: float(value) for name, value in found.items()}


def _names(path: Path) -> list[str]:
    from equipoise.core.tensorfile import TensorFile

    if path.suffix == ".safetensors":
        return [*TensorFile(path)]
    with np.load(path, allow_pickle=False) as archive:
        return archive.files


def _array(path: Path, name: str) -> Any:
    from equipoise.core.tensorfile import TensorFile

    if path.suffix == ".safetensors":
        file = TensorFile(path)
        if name not in file:
            raise ValueError(f"{path} holds {', '.join(file) or 'nothing'}, but no {name}")
        found = file[name]
        return (found.float() if str(found.dtype) == "torch.bfloat16" else found).numpy()
    with np.load(path, allow_pickle=False) as archive:
        if name not in archive.files:
            raise ValueError(f"{path} holds {', '.join(archive.files) or 'nothing'}, but no {name}")
        return archive[name]


def _file(target: str, option: str, endings: tuple[str, ...]) -> Path:
    path = Path(target)
    if not path.is_file():
        raise typer.BadParameter(
            f"{option}: {target} is no file, and no function as module:function or FILE.py:function"
        )
    if path.suffix not in endings:
        raise typer.BadParameter(f"{option}: {target} is none of {', '.join(endings)}")
    return path


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
