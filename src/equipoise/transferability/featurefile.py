"""Files of features: written chunk by chunk and atomically, read back as memory maps."""

import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.core.atomic import writing
from equipoise.transferability.sample import CHUNK, Sample

Array = np.ndarray
PARTS = ("features", "labels", "probabilities")
TAKEN = (*PARTS, "file", "allow_pickle")  # the last two by `np.savez`
ENDINGS = (".npz", ".safetensors")


def write_features(
    path: str | Path,
    chunks: Iterable[tuple[Array | None, Array | None, Array | None]],
    facts: Mapping[str, float] | None = None,
) -> Path:
    """Write features, labels and probabilities, given chunk by chunk, as .npz or .safetensors.

    A chunk is (features (n, D), labels (n,) or (n, K), probabilities (n, Z)), each an array or None
    throughout. `facts` are single numbers about the model, such as its parameters; a pool shows them as
    columns beside the scores. No more than a chunk is in memory; a file exists whole or not at all.

    Raises ValueError, naming the file, for another ending, no chunk, chunks that differ, text in safetensors,
    objects, and a fact that is not finite or called as a part.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise ValueError(f"features are written as .npz or .safetensors, and {path} ends in neither")
    for name, value in (facts or {}).items():
        if name in TAKEN:
            raise ValueError(f"{path}: {name!r} is a part of the file; call the number otherwise")
        if not np.isfinite(value):
            raise ValueError(f"{path}: {name!r} is {value}; give finite numbers, or leave it out")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".features-") as folder:
        _assemble(path, _spooled(path, chunks, Path(folder)), facts or {})
    return path


def read_features(path: str | Path, labels: Any = None, *, numbers: bool = False) -> Sample:
    """The sample of a file, called as the file.

    Features are read when a score asks for them, 4096 rows at a time from a memory map (a compressed .npz is
    read whole). `labels` stand in for those of the file; `numbers` says that they are no classes (`Sample`).

    Raises FileNotFoundError, or ValueError naming the file, where it holds neither features nor
    probabilities, or cannot be read.
    """
    path = Path(path)
    arrays, _ = _opened(path)
    parts: dict[str, Any] = {name: arrays[name] for name in PARTS if name in arrays}
    if "features" not in parts and "probabilities" not in parts:
        held = ", ".join(arrays) or "nothing"
        raise ValueError(
            f"{path} holds {held}; a model's file holds features (N, D) or probabilities (N, Z) under these "
            "names, and labels"
        )
    if labels is not None:
        parts["labels"] = labels
    return Sample(**parts, numbers=numbers, name=path.stem)


def read_facts(path: str | Path) -> dict[str, float]:
    """The single numbers that stand in a file beside its features."""
    return _opened(Path(path))[1]


def _opened(path: Path) -> tuple[dict[str, Any], dict[str, float]]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix not in ENDINGS:
        raise ValueError(f"{path}: features are read from .npz or .safetensors")
    return _open_npz(path) if path.suffix == ".npz" else _open_tensors(path)


def _spooled(path: Path, chunks: Iterable[Any], folder: Path) -> dict[str, Array]:
    """The parts on disk, as memory maps; labels in memory."""
    files: dict[str, Any] = {}
    looks: dict[str, tuple[Any, tuple[int, ...]]] = {}
    rows, labels, first = 0, [], None
    try:
        for chunk in chunks:
            given = {
                n: _plain(path, n, np.asarray(part))
                for n, part in zip(PARTS, chunk, strict=True)
                if part is not None
            }
            look = {name: (part.dtype, part.shape[1:]) for name, part in given.items() if name != "labels"}
            sizes = {len(part) for part in given.values()}
            if first is None:
                first, looks = set(given), look
                files = {name: (folder / name).open("wb") for name in look}
            if set(given) != first or look != looks or len(sizes) != 1:
                said = ", ".join(f"{name} {part.dtype}{part.shape}" for name, part in given.items())
                raise ValueError(f"{path}: the chunk from sample {rows} on is unlike those before it: {said}")
            for name, file in files.items():
                file.write(np.ascontiguousarray(given[name]).data)
            if "labels" in given:
                labels.append(given["labels"])
            rows += sizes.pop()
    finally:
        for file in files.values():
            file.close()
    if not rows:
        raise ValueError(f"{path}: there are no samples to write")
    parts: dict[str, Array] = {
        name: np.memmap(folder / name, dtype, "r+", shape=(rows, *shape))
        for name, (dtype, shape) in looks.items()
    }
    return parts | ({"labels": np.concatenate(labels)} if labels else {})


def _plain(path: Path, name: str, part: Array) -> Array:
    """Numbers as they are; labels that are text as unicode of one width, which needs no pickle."""
    if name == "labels" and part.dtype.kind == "O" and all(isinstance(label, str) for label in part.flat):
        return part.astype(str)
    if part.dtype.kind not in ("iufbU" if name == "labels" else "iufb"):
        kinds = "numbers or text" if name == "labels" else "numbers"
        raise ValueError(f"{path}: {name} are {part.dtype}; give {kinds}")
    return part


def _assemble(path: Path, parts: Mapping[str, Array], facts: Mapping[str, float]) -> None:
    """One file of the parts, which no name holds any more when this returns."""
    numbers = {name: float(value) for name, value in facts.items()}
    if path.suffix == ".safetensors":
        return _write_tensors(path, parts, numbers)
    content: dict[str, Any] = {**parts, **{name: np.array(value) for name, value in numbers.items()}}
    with writing(path) as file:
        np.savez(file, **content)


def _write_tensors(path: Path, parts: Mapping[str, Array], facts: Mapping[str, float]) -> None:
    import torch

    from equipoise.core.tensorfile import write_tensors

    if "labels" in parts and parts["labels"].dtype.kind not in "iufb":
        raise ValueError(f"{path}: safetensors hold no text, and labels are text; write .npz")

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for name, part in parts.items():
            yield name, torch.from_numpy(part)

    write_tensors(path, tensors(), {name: repr(value) for name, value in facts.items()})


def _open_tensors(path: Path) -> tuple[dict[str, Any], dict[str, float]]:
    from equipoise.core.tensorfile import TensorFile

    file = TensorFile(path)

    def chunks() -> Iterator[Any]:
        rows, width = file.shape("features")
        for start in range(0, rows, CHUNK):
            stop = min(start + CHUNK, rows)
            yield file.part("features", start * width, stop * width).view(-1, width)

    found: dict[str, Any] = {name: file[name] for name in file if name in PARTS and name != "features"}
    if "features" in file:
        if len(file.shape("features")) != 2:
            raise ValueError(f"{path}: features have shape {tuple(file.shape('features'))}; give (N, D)")
        found["features"] = chunks
    others = {name: None for name in file if name not in PARTS}
    return found | others, {n: float(text) for n, text in file.metadata.items() if _is_number(text)}


def _open_npz(path: Path) -> tuple[dict[str, Any], dict[str, float]]:
    found, facts = {}, {}
    try:
        with np.load(path, allow_pickle=False) as file, zipfile.ZipFile(path) as archive:
            for name in file.files:
                info = archive.getinfo(f"{name}.npy")
                mapped = _mapped(path, info) if info.compress_type == zipfile.ZIP_STORED else None
                array = file[name] if mapped is None else mapped
                if array.ndim == 0 and array.dtype.kind in "iuf":
                    facts[name] = float(array)
                else:
                    found[name] = array
    except (ValueError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ValueError(f"{path} is not a readable .npz ({error})") from error
    return found, facts


def _mapped(path: Path, info: zipfile.ZipInfo) -> Array | None:
    """A member of an archive that is stored as it is, mapped; None where it is one number or holds text."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
        file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else _header_2
        shape, fortran, dtype = read(file)
        if not shape or 0 in shape or dtype.kind not in "iufb":
            return None
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def _header_2(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    return np.lib.format.read_array_header_2_0(file)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text) is not None
