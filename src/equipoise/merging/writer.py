"""Writing a model while it is merged: headers first, then bytes at their places, from several threads."""

import errno
import json
import os
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from equipoise.core.atomic import sync_folder
from equipoise.core.tensorfile import LABELS
from equipoise.merging.claim import Claim, vacant
from equipoise.merging.plan import Plan, Planned

SHARD = 5 * 10**9
"""Bytes of a shard, unless told otherwise; what Hugging Face writes by default."""
MODEL = "model.safetensors"
INDEX = "model.safetensors.index.json"


class ModelWriter:
    """A folder with the merged model, which stands under its name when the `with` block ends, or not at all.

    Files are made at full length at the start: since shapes and dtypes are known, headers come first and each
    value has its place. `write` may be called from several threads. More than `shard_size` bytes are split
    into shards with an index. On an error nothing is left. Until the end all is in a folder beside `folder`,
    which is locked; what a killed run left there is removed by the next one of the same name.

    Raises what `vacant` does; FileExistsError where `folder` is being written; OSError where less than the
    bytes of the model are free on the disk.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        *,
        metadata: Mapping[str, str] | None = None,
        shard_size: int = SHARD,
    ) -> None:
        self.folder = vacant(folder)
        self.plan = plan
        self.metadata = {"format": "pt", **(metadata or {})}
        self.shards = shards(plan.tensors, shard_size)
        self._places: dict[str, tuple[int, int, int]] = {}  # tensor -> (descriptor, first byte, item size)
        self._files: list[int] = []
        self._parents: list[Path] = []  # those that were made, the innermost first
        self._claim: Claim | None = None

    def __enter__(self) -> Self:
        try:
            self._parents = [one for one in self.folder.parents if not one.exists()]
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._claim = Claim(self.folder)
            self.temporary = self._claim.take()
            vacant(self.folder)  # still, now that no other writes it
            free = shutil.disk_usage(self.folder.parent).free
            if free < self.plan.nbytes:
                words = f"{self.folder}: the merged model takes {self.plan.nbytes:,} bytes, {free:,} are free"
                raise OSError(errno.ENOSPC, words)
            with self._named():
                for name, tensors in self.shards.items():
                    self._begin(self.temporary / name, tensors)
        except BaseException:
            self._abandon()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            self._finish()
        except BaseException:
            self._abandon()
            raise

    def write(self, name: str, start: int, values: Tensor) -> None:
        """Write flat values of a tensor, from its element `start` on."""
        file, first, size = self._places[name]
        content = values.detach().contiguous().view(torch.uint8).numpy().data
        at = first + start * size
        with self._named():
            while content:
                written = os.pwrite(file, content, at)
                content, at = content[written:], at + written

    def add(self, name: str, content: str | Path) -> None:
        """Add a file beside the model: text, or a copy."""
        if isinstance(content, Path):
            shutil.copyfile(content, self.temporary / name)
        else:
            (self.temporary / name).write_text(content, encoding="utf-8", newline="\n")

    def _begin(self, path: Path, tensors: Sequence[Planned]) -> None:
        header: dict[str, object] = {"__metadata__": self.metadata}
        place = 0
        for tensor in sorted(tensors, key=lambda t: -t.dtype.itemsize):  # wide first keeps all aligned
            header[tensor.name] = {
                "dtype": LABELS[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [place, place + tensor.nbytes],
            }
            place += tensor.nbytes
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self._files.append(file)
        os.pwrite(file, struct.pack("<Q", len(text)) + text, 0)
        os.truncate(file, 8 + len(text) + place)
        for tensor in tensors:
            entry = header[tensor.name]
            assert isinstance(entry, dict)
            first = 8 + len(text) + entry["data_offsets"][0]
            self._places[tensor.name] = file, first, tensor.dtype.itemsize

    def _finish(self) -> None:
        while self._files:
            file = self._files.pop()
            os.fsync(file)
            os.close(file)
        if len(self.shards) > 1:
            placed = {t.name: shard for shard, tensors in self.shards.items() for t in tensors}
            index = {"metadata": {"total_size": self.plan.nbytes}, "weight_map": placed}
            self.add(INDEX, json.dumps(index, indent=2) + "\n")
        for path in self.temporary.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(self.temporary)
        self.temporary.rename(self.folder)  # also onto an empty folder
        self._release()
        sync_folder(self.folder.parent)

    def _abandon(self) -> None:
        for file in self._files:
            os.close(file)
        self._files.clear()
        self._release()
        for parent in self._parents:
            with suppress(OSError):  # another has put something there
                parent.rmdir()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Within, a write that fails, of which the system says no name, is one of this folder."""
        try:
            yield
        except OSError as error:
            if error.filename is None:
                error.filename = str(self.folder)
            raise

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()


def shards(tensors: Sequence[Planned], size: int) -> dict[str, list[Planned]]:
    """The tensors of each file; a file holds at most `size` bytes, unless one tensor alone has more."""
    groups: list[list[Planned]] = [[]]
    filled = 0
    for tensor in tensors:
        if groups[-1] and filled + tensor.nbytes > size:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += tensor.nbytes
    if len(groups) == 1:
        return {MODEL: groups[0]}
    n = len(groups)
    return {f"model-{i:05}-of-{n:05}.safetensors": group for i, group in enumerate(groups, 1)}
