"""Safetensors files and sharded folders as lazy mappings of tensors, and streamed atomic writing."""

import json
import os
import shutil
import struct
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from equipoise.core.atomic import writing
from equipoise.core.errors import unknown

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
LABELS = {dtype: label for label, dtype in DTYPES.items()}
_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_COPY = 1 << 24


class _Entry(NamedTuple):
    file: Path
    label: str
    shape: torch.Size
    place: int  # in the file


class TensorFile(Mapping[str, Tensor]):
    """The tensors of one model on disk by name; each is read when asked for and not kept.

    `path` is a `.safetensors` file, an index (`model.safetensors.index.json`), or a folder that
    holds either, as those of Hugging Face do; where `model.safetensors` lies beside an index it is that
    file, as for transformers. Opening reads headers only, so `shape` and `dtype`
    cost no tensor. Names come in the order of the file. Tensors come memory-mapped on the CPU; what
    is written into one does not reach the file. With `memory_map=False` each is read into memory of
    its own, and no part of a file stays resident. Nothing is unpickled. `path` is as it was given,
    `files` are those that hold the tensors. Threads may read side by side.

    Raises FileNotFoundError where there is nothing, ValueError where it is no safetensors file or
    shards and index disagree.
    """

    def __init__(self, path: str | Path, *, memory_map: bool = True) -> None:
        self.path = Path(path)
        self.metadata: dict[str, str] = {}
        self._memory_map = memory_map
        self._handles: dict[Path, Any] = {}
        self._flat: dict[str, Tensor] = {}
        self._entries: dict[str, _Entry] = {}
        file = _locate(self.path)
        if file.name.endswith(".index.json"):
            self._open_shards(file)
        else:
            self._entries, self.metadata = self._open(file)

    def shape(self, name: str) -> torch.Size:
        """The shape of a tensor, from the header."""
        return self._entry(name).shape

    def dtype(self, name: str) -> torch.dtype:
        """The dtype of a tensor, from the header."""
        file, label, *_ = self._entry(name)
        if label not in DTYPES:
            raise ValueError(f"{file}: tensor {name!r} has dtype {label}; readable are {', '.join(DTYPES)}")
        return DTYPES[label]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the tensors: one, or the shards."""
        return tuple(self._handles)

    def part(self, name: str, start: int, stop: int) -> Tensor:  # -> (stop - start,)
        """Elements of a tensor, flattened; the rest of it is not read."""
        if self._memory_map:
            if name not in self._flat:
                self._flat[name] = self[name].reshape(-1)  # of the map; it holds no memory
            return self._flat[name][start:stop]
        file, _, _, place = self._entry(name)
        dtype = self.dtype(name)
        content = torch.empty((stop - start) * dtype.itemsize, dtype=torch.uint8)
        left, at = content.numpy().data, place + start * dtype.itemsize
        while left:
            taken = os.preadv(self._handles[file], [left], at)
            if not taken:
                raise ValueError(f"{file}: tensor {name!r} ends before its length; the file was cut short")
            left, at = left[taken:], at + taken
        return content.view(dtype)

    def __getitem__(self, name: str) -> Tensor:
        self.dtype(name)
        file, _, shape, _ = self._entries[name]
        if self._memory_map:
            return self._handles[file].get_tensor(name)
        return self.part(name, 0, prod(shape)).view(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __repr__(self) -> str:
        return f"TensorFile({str(self.path)!r}, {len(self)} tensors)"

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            raise KeyError(f"{self.path}: {unknown('tensor', name, self._entries)}")
        return self._entries[name]

    def _open(self, file: Path) -> tuple[dict[str, _Entry], dict[str, str]]:
        try:
            if self._memory_map:
                self._handles[file] = safe_open(file, framework="pt")  # also checks header and length
            else:
                self._handles[file] = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
                weakref.finalize(self, os.close, self._handles[file])
            header, end = _read_header(file)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file}: not a readable safetensors file ({error})") from error
        metadata = header.pop("__metadata__", None) or {}
        return {
            n: _Entry(file, t["dtype"], torch.Size(t["shape"]), end + t["data_offsets"][0])
            for n, t in header.items()
        }, metadata

    def _open_shards(self, index: Path) -> None:
        placed, metadata = _read_index(index)
        shards = {name: index.parent / name for name in dict.fromkeys(placed.values())}
        absent = [name for name, shard in shards.items() if not shard.is_file()]
        if absent:
            raise FileNotFoundError(f"{index}: missing shards: {', '.join(absent)}")
        found = {name: self._open(shard)[0] for name, shard in shards.items()}
        lost = [f"{name!r} in {shard}" for name, shard in placed.items() if name not in found[shard]]
        if lost:
            raise ValueError(f"{index}: tensors absent from their shard: {', '.join(lost[:10])}")
        self._entries = {name: found[shard][name] for name, shard in placed.items()}
        self.metadata = {key: str(value) for key, value in metadata.items()}


def named(paths: Sequence[str | Path]) -> dict[str, str | Path]:
    """Models by the shortest ends of their paths that tell them apart.

    That is the file or folder, without its suffix; what all paths end with is left out where that is not
    enough. Names do not hang on how a path is spelled; links are not followed.

    Raises ValueError where one path is given twice.

    >>> list(named(["a/model.safetensors", "b/model.safetensors"]))
    ['a', 'b']
    >>> list(named(["a/x", "b/x", "b/y"]))
    ['a/x', 'b/x', 'y']
    """
    whole = [Path(os.path.abspath(path)).parts for path in paths]
    if repeated := sorted({str(Path(*parts)) for parts in whole if whole.count(parts) > 1}):
        raise ValueError(f"checkpoints repeat: {', '.join(repeated)}; name them by a mapping")
    plain = [
        (*above, last.removesuffix(".index.json").removesuffix(".safetensors") or last)
        for *above, last in whole
    ]
    whole = plain if len(set(plain)) == len(plain) else whole
    while len({last for *_, last in whole}) == 1 and min(map(len, whole)) > 2 and len(whole) > 1:
        whole = [parts[:-1] for parts in whole]
    return {_end(parts, whole): path for parts, path in zip(whole, paths, strict=True)}


def _end(parts: tuple[str, ...], among: Sequence[tuple[str, ...]]) -> str:
    """The shortest end of a path that no other one has."""
    n = 1
    while sum(one[-n:] == parts[-n:] for one in among) > 1:
        n += 1
    return "/".join(parts[-n:])


def write_tensors(
    path: str | Path, entries: Iterable[tuple[str, Tensor]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically, with one tensor in memory at a time.

    `entries` may be a generator; its order is the order of names in the file. Tensors of any device
    and stride are written as they are, without a change of dtype. Where `entries` raises, or a
    tensor has no place in the format, nothing is written; ValueError names the file and the tensor.
    """
    path = Path(path)
    metadata = dict(metadata or {})
    wrong = [key for key, value in metadata.items() if not (isinstance(key, str) and isinstance(value, str))]
    if wrong:
        raise ValueError(f"{path}: metadata maps text to text, but not under {', '.join(map(repr, wrong))}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    with ExitStack() as stack:
        # One body for each item size, the widest first in the file, keeps every tensor aligned.
        bodies = {size: stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for size in (8, 4, 2, 1)}
        written: dict[str, tuple[str, list[int], int, int, int]] = {}
        for name, tensor in entries:
            if name in written or name == "__metadata__":
                raise ValueError(f"{path}: tensor {name!r}: the name is taken; every tensor needs its own")
            label, content = _content(path, name, tensor)
            body = bodies[tensor.element_size()]
            start = body.tell()
            body.write(content)
            written[name] = label, list(tensor.shape), tensor.element_size(), start, body.tell()
            del tensor, content
        _assemble(path, written, bodies, metadata)


def _assemble(path: Path, written: dict, bodies: Mapping[int, IO[bytes]], metadata: dict[str, str]) -> None:
    offsets, total = {}, 0
    for size, body in bodies.items():
        offsets[size] = total
        total += body.tell()
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    for name, (label, shape, size, start, stop) in written.items():
        places = [offsets[size] + start, offsets[size] + stop]
        header[name] = {"dtype": label, "shape": shape, "data_offsets": places}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with writing(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for body in bodies.values():
            body.seek(0)
            shutil.copyfileobj(body, file, _COPY)


def _content(path: Path, name: str, tensor: Tensor) -> tuple[str, memoryview]:
    if tensor.dtype not in LABELS:
        raise ValueError(f"{path}: tensor {name!r} has dtype {tensor.dtype}, which safetensors does not hold")
    if tensor.layout is not torch.strided or tensor.is_meta:
        kind = "meta" if tensor.is_meta else str(tensor.layout)
        raise ValueError(f"{path}: tensor {name!r} is {kind}; give a dense tensor that holds values")
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return LABELS[tensor.dtype], flat.view(torch.uint8).numpy().data


def _locate(path: Path) -> Path:
    """The file or index that `path` means."""
    if path.is_dir():
        indices = sorted(path.glob("*.safetensors.index.json"))
        files = sorted(path.glob("*.safetensors"))
        usual = (path / "model.safetensors", path / "model.safetensors.index.json")  # as transformers looks
        for choice in ([f for f in usual if f.is_file()][:1], indices, files):
            if len(choice) == 1:
                return choice[0]
        if indices or files:
            names = ", ".join(f.name for f in indices or files)
            raise ValueError(f"{path}: several models ({names}); name the file, or add an index")
        pickles = sorted(f for f in path.iterdir() if f.suffix in _PICKLES)
        if pickles:
            _refuse_pickle(pickles[0])
        raise FileNotFoundError(f"{path}: no .safetensors file and no index in this folder")
    if not path.is_file():
        kinds = "a .safetensors file, an index of shards or a folder that holds one"
        raise FileNotFoundError(f"no file or folder {path}; give {kinds}")
    if path.suffix.lower() in _PICKLES:
        _refuse_pickle(path)
    with path.open("rb") as file:
        start = file.read(9)  # the length of a header may begin as a pickle does, but then "{" follows
        if start.startswith(_PICKLE_STARTS) and start[8:] != b"{":
            _refuse_pickle(path)
    return path


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """What stands in the header, checked, and the byte at which the tensors begin."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if 8 + length > size:
            raise ValueError(f"{file}: not a readable safetensors file (the header is longer than the file)")
        try:
            header = json.loads(stream.read(length))
            tensors = [one for name, one in header.items() if name != "__metadata__"]
            at = 0
            for first, last, label, shape in sorted(
                (*one["data_offsets"], one["dtype"], one["shape"]) for one in tensors
            ):
                width = DTYPES[label].itemsize if label in DTYPES else None
                if first != at or (width is not None and last - first != width * prod(shape)):
                    raise ValueError("tensors overlap, leave gaps or are not as long as their shapes say")
                at = last
            if 8 + length + at != size:
                raise ValueError(f"{8 + length + at} bytes are announced, {size} there")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file}: not a readable safetensors file ({error})") from error
    return header, 8 + length


def _refuse_pickle(path: Path) -> None:
    convert = f'save_file(torch.load("{path.name}", weights_only=True), "{path.stem}.safetensors")'
    raise ValueError(
        f"{path}: a pickle can run code when it is loaded, so it is not read; "
        f"convert it once: safetensors.torch.{convert}"
    )


def _read_index(index: Path) -> tuple[dict[str, str], dict[str, Any]]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        placed, metadata = dict(content["weight_map"]), dict(content.get("metadata") or {})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{index}: not an index of shards: no readable weight_map ({error!r})") from error
    for name, shard in placed.items():
        if not isinstance(shard, str) or Path(shard).name != shard or shard in {"", ".", ".."}:
            raise ValueError(f"{index}: tensor {name!r} lies in {shard!r}, which is no file of this folder")
    return placed, metadata
