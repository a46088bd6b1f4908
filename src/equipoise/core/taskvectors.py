"""Task vectors: what training on each task added to a common base, read lazily from safetensors."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from equipoise.core.bundle import Bundle
from equipoise.core.errors import NonFiniteDirection, unknown
from equipoise.core.tensorfile import TensorFile, named

_SHOWN = 10


def task_vectors(checkpoints: Mapping[str, str | Path] | Sequence[str | Path], base: str | Path) -> Bundle:
    """The bundle of differences checkpoint - base, one direction for each checkpoint.

    Row i is tau_i = theta_i - theta_0 with theta_i a checkpoint and theta_0 the `base`. Use it to
    diagnose or merge models that were fine-tuned from one base; not for models trained from different
    starts, whose differences mean nothing.

    Each path is a safetensors file, an index of shards or a Hugging Face folder. A mapping names the
    directions; a sequence names them by file or folder, or by the end of the path that tells them apart.
    Headers alone are read here: a block is subtracted when asked for, in float32, or in float64 where
    base or checkpoint holds float64. Blocks are the base's floating-point tensors in its order;
    integer and boolean tensors (counters, indices, masks) are left out wherever they stand. A
    checkpoint equal to the base gives a zero row.

    Raises ValueError, before anything is computed, for tensors that a checkpoint lacks or has beyond
    the base, and for other shapes or kinds than the base's; NonFiniteDirection where a block is read
    that holds NaN or infinity. Both name file and tensor.

    Source: Ilharco, Ribeiro, Wortsman, Gururangan, Schmidt, Hajishirzi, Farhadi 2023, "Editing Models
    with Task Arithmetic", section 2.

    >>> from equipoise import task_vectors
    >>> task_vectors({"fr": "missing.safetensors"}, base="base.safetensors")
    Traceback (most recent call last):
    FileNotFoundError: no file or folder base.safetensors; ...
    """
    if isinstance(checkpoints, str | Path):
        raise TypeError(f"checkpoints is the one path {checkpoints}; give a sequence or mapping of paths")
    paths = dict(checkpoints) if isinstance(checkpoints, Mapping) else named(checkpoints)
    origin = TensorFile(base)
    files = {name: TensorFile(path) for name, path in paths.items()}
    return Bundle(list(files), _Differences(origin, files))


class _Differences(Mapping[str, Tensor]):
    """Block name -> (m, *shape), computed when asked for."""

    def __init__(self, base: TensorFile, files: Mapping[str, TensorFile]) -> None:
        self._base = base
        self._files = files
        self._blocks = tuple(name for name in base if base.dtype(name).is_floating_point)
        faults = [fault for file in (base, *files.values()) for fault in self._faults(file)]
        if faults:
            more = f"\nand {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            raise ValueError("checkpoints do not match their base:\n" + "\n".join(faults[:_SHOWN]) + more)
        if not self._blocks:
            raise ValueError(f"{base.path}: no floating-point tensor among {len(base)}; nothing to subtract")

    def _faults(self, file: TensorFile) -> Iterator[str]:
        base = self._base
        for name in file:
            dtype = file.dtype(name)
            if dtype.is_complex:
                yield f"{file.path}: tensor {name!r} is {dtype}; directions are real"
            elif dtype.is_floating_point and name not in base:
                yield f"{file.path}: tensor {name!r} is not in the base {base.path}"
        for name in self._blocks:
            if name not in file:
                yield f"{file.path}: tensor {name!r} of the base {base.path} is missing"
            elif not (file.dtype(name).is_floating_point or file.dtype(name).is_complex):
                yield f"{file.path}: tensor {name!r} is {file.dtype(name)}, in the base {base.dtype(name)}"
            elif file.shape(name) != base.shape(name):
                shapes = tuple(file.shape(name)), tuple(base.shape(name))
                yield f"{file.path}: tensor {name!r} has shape {shapes[0]}, in the base {shapes[1]}"

    def __getitem__(self, block: str) -> Tensor:  # -> (m, *shape)
        if block not in self._blocks:
            raise KeyError(unknown("block", block, self._blocks))
        files = (self._base, *self._files.values())
        double = any(file.dtype(block) == torch.float64 for file in files)
        dtype = torch.float64 if double else torch.float32
        start = self._base[block].to(dtype)
        _raise_unless_finite(start, block, self._base, self._files)
        rows = torch.empty(len(self._files), *start.shape, dtype=dtype)
        for row, (name, file) in zip(rows, self._files.items(), strict=True):
            row.copy_(file[block])
            _raise_unless_finite(row, block, file, (name,))
            row -= start
        return rows

    def __contains__(self, block: object) -> bool:
        return block in self._blocks

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)


def _raise_unless_finite(values: Tensor, block: str, file: TensorFile, names: Iterable[str]) -> None:
    if not bool(values.isfinite().all()):
        raise NonFiniteDirection(names, f"tensor {block!r} of {file.path} holds NaN or infinity")
