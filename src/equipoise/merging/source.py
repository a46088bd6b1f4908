"""Where the numbers of a tensor come from: a file on disk, or a `state_dict` in memory."""

import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from equipoise.core.errors import check_choice, unknown
from equipoise.core.tensorfile import TensorFile

Model = str | Path | Mapping[str, Tensor]
"""A safetensors file, an index of shards, a Hugging Face folder, or a `state_dict` in memory."""

Reading = Literal["map", "read"]
"""By memory map, or into memory of one's own."""

_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}
_WITHIN = ("state_dict", "model_state_dict", "model")


class StateDict(Mapping[str, Tensor]):
    """A `state_dict` with the face of `TensorFile`.

    `path` is the file that it was loaded from, else what it is called in messages.

    Raises ValueError where something in it is no tensor.
    """

    def __init__(self, tensors: Mapping[str, Tensor], path: str | Path) -> None:
        for name, one in tensors.items():
            if not isinstance(one, Tensor):
                kind = "None" if one is None else f"a {type(one).__name__}"
                raise ValueError(f"{path}: {name!r} is {kind}, not a tensor; leave it out")
        self._tensors = tensors
        self.path = path
        self.metadata: dict[str, str] = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """The file that it was loaded from, if any."""
        return (self.path,) if isinstance(self.path, Path) else ()

    def shape(self, name: str) -> torch.Size:
        """The shape of a tensor."""
        return self[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """The dtype of a tensor."""
        return self[name].dtype

    def part(self, name: str, start: int, stop: int) -> Tensor:  # -> (stop - start,)
        """Elements of a tensor, flattened, on the CPU."""
        tensor = self[name].detach()
        while tensor.dim() > 1 and not tensor.is_contiguous():  # only the rows that are asked for are copied
            width = prod(tensor.shape[1:])
            first, last = start // width, -(-stop // width)
            tensor, start, stop = tensor[first:last], start - first * width, stop - first * width
            if last - first != 1:
                break
            tensor = tensor[0]
        return tensor.reshape(-1)[start:stop].cpu()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise KeyError(f"{self.path}: {unknown('tensor', name, self._tensors)}")
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


Checkpoint = TensorFile | StateDict
"""A model by the names of its tensors."""


def open_model(model: Model, name: str, *, reading: Reading = "map", pickles: bool = False) -> Checkpoint:
    """A model by the names of its tensors; `name` is what a `state_dict` is called in messages.

    A file of PyTorch is read where `pickles` allows it and the path is that of the file: by
    `torch.load(weights_only=True)`, which builds tensors and nothing else.

    Raises ValueError where the file is of neither kind, or `reading` is none of its choices.
    """
    check_choice("reading", reading, get_args(Reading))
    if isinstance(model, Mapping):
        return StateDict(model, name)
    if Path(model).is_file() and Path(model).suffix.lower() in _PICKLES:
        if not pickles:
            raise ValueError(
                f"{model}: a pickle can run code when it is loaded; convert it to safetensors, or allow "
                "pickles=True (--set pickles=true), which takes tensors from it and nothing else"
            )
        return _unpickled(Path(model))
    return TensorFile(model, memory_map=reading == "map")


def config_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """What stands in the config.json of a Hugging Face folder; nothing where there is none.

    Raises ValueError where it cannot be read.
    """
    path = checkpoint.path
    return _config(path / "config.json") if isinstance(path, Path) and path.is_dir() else {}


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a readable config ({error})") from error


def _unpickled(path: Path) -> StateDict:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: holds more than tensors, or is no file of torch.save ({error})") from error
    for key in _WITHIN:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not all(isinstance(one, Tensor) for one in found.values()):
        raise ValueError(f"{path}: not a state_dict; save model.state_dict(), or write safetensors")
    return StateDict(found, path)


@dataclass(frozen=True)
class Source:
    """One tensor of one checkpoint, from its element `first` on; of its rows, where told, only so many."""

    checkpoint: Checkpoint
    tensor: str
    first: int = 0
    rows: int | None = None

    @property
    def shape(self) -> torch.Size:
        whole = self.checkpoint.shape(self.tensor)
        return whole if self.rows is None else torch.Size([self.rows, *whole[1:]])

    @property
    def dtype(self) -> torch.dtype:
        return self.checkpoint.dtype(self.tensor)

    def part(self, start: int, stop: int) -> Tensor:  # -> (stop - start,)
        """Elements of the flattened tensor, in the dtype in which they are stored."""
        return self.checkpoint.part(self.tensor, self.first + start, self.first + stop)

    def __str__(self) -> str:
        return f"tensor {self.tensor!r} of {self.checkpoint.path}"
