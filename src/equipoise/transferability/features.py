"""Features of a target set under a live model: taken by a hook at a named layer, batch by batch."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.core.errors import unknown
from equipoise.transferability.featurefile import write_features
from equipoise.transferability.sample import Sample

Reduce = Callable[[Tensor, Tensor | None], Tensor]
OUTPUT = "the model's output"


def extract_features(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    layer: str | None = None,
    reduce: Reduce | None = None,
    numbers: bool = False,
) -> Sample:
    """The sample of a model: its features, the labels of the batches, and its probabilities if it has them.

    batches: pairs (inputs, labels), inputs alone, or mappings whose "labels" or "label" are the labels and
    whose other entries go to the model by name. Inputs may be a tensor, a tuple of arguments or a mapping.
    layer: the path of a module, whose output is taken; with ":input" behind it, its input. By default what
    transformers pool, where the output has a `pooler_output` or a `last_hidden_state`; else the input of the
    `nn.Linear` that is called last; else the output. reduce: (features, attention mask or None) -> (n, D), by
    default the mean over the places of a sequence (n, T, D) that the mask keeps, and over the pixels of
    (n, C, H, W). Features with channels last, (n, H, W, C), need a `reduce`, for shapes do not tell.
    numbers: the labels are numbers, for regression, whatever their type (`Sample`).

    Probabilities are the soft-max of the output, or of its `logits`, where these are (n, Z) with Z from 2
    and were not taken as features; rows that are probabilities already stay. Of a tuple with several such
    parts, such as features and logits, none are made, for order does not tell which is which.

    The model is run in eval mode without gradients, on the device of its parameters, and every module gets
    its own mode back. A timm model is an `nn.Module` as any other.

    Raises ValueError for a layer that is not there or was not called, and features that are not (n, D).

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> sample = extract_features(model, [(torch.ones(2, 2, 2), [0, 1])])
    >>> sample.features.shape, sample.probabilities.shape
    ((2, 4), (2, 3))
    """
    with closing(_chunks(model, batches, layer, reduce)) as given:
        chunks = [*given]
    if not chunks:
        raise ValueError("there are no batches to take features from")
    columns = zip(*chunks, strict=True)
    parts = (None if column[0] is None else np.concatenate(column) for column in columns)
    return Sample(*parts, numbers=numbers)


def save_features(
    path: str | Path,
    model: nn.Module,
    batches: Iterable[Any],
    *,
    layer: str | None = None,
    reduce: Reduce | None = None,
    facts: Mapping[str, float] | None = None,
) -> Path:
    """As `extract_features`, into a file .npz or .safetensors, with no more than a batch in memory.

    The number of parameters is written beside it, and `facts`, other numbers about the model, such as
    {"source accuracy": 0.8}. `Pool.from_folder` reads a folder of such files.
    """
    known = {"parameters": float(sum(p.numel() for p in model.parameters())), **(facts or {})}
    with closing(_chunks(model, batches, layer, reduce)) as chunks:
        return write_features(path, chunks, known)


def _chunks(
    model: nn.Module, batches: Iterable[Any], layer: str | None, reduce: Reduce | None
) -> Generator[tuple[Any, Any, Any]]:
    """Features, labels and probabilities of each batch; to be closed, for it holds the model in eval mode."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    modules, takes_input = _modules(model, layer)
    caught: list[tuple[str, Tensor]] = []

    def catcher(path: str) -> Callable[..., None]:
        def catch(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            caught[:] = [(path, _first((*arguments, *named.values()) if takes_input else output))]

        return catch

    handles = [
        module.register_forward_hook(catcher(path), with_kwargs=True) for path, module in modules.items()
    ]
    try:
        with evaluated(model):
            for batch in batches:
                inputs, labels = _split(batch)
                arguments, named = _arguments(inputs, device)
                caught.clear()
                with torch.no_grad():
                    output = model(*arguments, **named)
                    place, found = _taken(output, caught, layer)
                    rows = (reduce or reduced)(found, named.get("attention_mask"))
                    if rows.ndim != 2 or len(rows) != _length(inputs):
                        raise ValueError(
                            f"features of {place} have shape {tuple(rows.shape)} for {_length(inputs)} "
                            "samples; give (n, D) by `reduce` or name another layer"
                        )
                    said = None if place == OUTPUT else _probabilities(output, rows)
                caught.clear()
                yield _numbers(rows), labels, None if said is None else _numbers(said)
    finally:
        for handle in handles:
            handle.remove()


def _taken(output: Any, caught: list[tuple[str, Tensor]], layer: str | None) -> tuple[str, Tensor]:
    """What the features are made of, and where it was found."""
    if layer is not None:
        if not caught:
            raise ValueError(f"the layer {layer} was not called by the forward pass of the model")
        return f"the layer {layer}", caught[0][1]
    for name in ("pooler_output", "last_hidden_state"):
        found = _part(output, name)
        if isinstance(found, Tensor):
            return f"the output's {name}", found
    if caught:
        return f"the input of the Linear {caught[0][0] or 'that is the model'}", caught[0][1]
    return OUTPUT, _first(output)


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """The model in eval mode; afterwards every module has the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def reduced(found: Tensor, mask: Tensor | None) -> Tensor:  # (n, T, D) or (n, C, H, W) -> (n, D)
    """The mean over the places of a sequence that the mask keeps, or over pixels; (n, D) stays."""
    if found.ndim == 3:
        if mask is None or mask.shape != found.shape[:2]:
            return found.mean(1)
        weight = mask.to(found.dtype)[:, :, None]
        return (found * weight).sum(1) / weight.sum(1).clamp(min=1)
    return found.flatten(2).mean(2) if found.ndim > 3 else found


def _modules(model: nn.Module, layer: str | None) -> tuple[dict[str, nn.Module], bool]:
    """Modules by path of which the last that is called counts, and whether it is their input that does."""
    known = dict(model.named_modules())
    if layer is None:
        return {path: module for path, module in known.items() if isinstance(module, nn.Linear)}, True
    path, _, end = layer.partition(":")
    if path not in known or end not in ("", "input"):
        raise ValueError(unknown("layer", layer, (name for name in known if name)))
    return {path: known[path]}, end == "input"


def _split(batch: Any) -> tuple[Any, Any]:
    """Inputs and labels; labels stay on the CPU."""
    if isinstance(batch, Mapping):
        key = next((key for key in ("labels", "label") if key in batch), None)
        inputs = {name: value for name, value in batch.items() if name != key}
        return inputs, None if key is None else _labels(batch[key])
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], _labels(batch[1])
    return batch, None


def _labels(labels: Any) -> np.ndarray:
    return np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)


def _arguments(inputs: Any, device: torch.device) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def moved(value: Any) -> Any:
        value = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        return value.to(device) if isinstance(value, Tensor) else value

    if isinstance(inputs, Mapping):
        return (), {name: moved(value) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(moved(value) for value in inputs), {}
    return (moved(inputs),), {}


def _length(inputs: Any) -> int:
    if isinstance(inputs, Mapping):
        return len(next(iter(inputs.values())))
    return len(inputs[0]) if isinstance(inputs, tuple | list) else len(inputs)


def _first(output: Any) -> Tensor:
    """A tensor, or the first one of what a module gave."""
    if isinstance(output, Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output
    if isinstance(values, Iterable):
        for value in values:
            if isinstance(value, Tensor):
                return value
    raise ValueError(f"the model gave {type(output).__name__}, in which there is no tensor")


def _part(output: Any, name: str) -> Any:
    """An entry of what a model gave, as a mapping or by attribute; None where there is none."""
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _probabilities(output: Any, rows: Tensor) -> Tensor | None:
    logits = _part(output, "logits")
    if logits is None:
        logits = output
    if isinstance(logits, tuple | list):  # which of several are logits, nobody says
        able = [part for part in logits if isinstance(part, Tensor) and part.ndim == 2 and part.shape[1] > 1]
        logits = able[0] if len(able) == 1 else None
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        return None
    if logits.ndim != 2 or logits.shape[1] < 2 or len(logits) != len(rows):
        return None
    said = logits.double()
    are = bool((said >= 0).all() and ((said.sum(1) - 1).abs() < 1e-3).all())
    return (said if are else said.softmax(1)).float()


def _numbers(found: Tensor) -> np.ndarray:
    found = found.detach().cpu()
    return (found.float() if found.dtype is torch.bfloat16 else found).numpy()
