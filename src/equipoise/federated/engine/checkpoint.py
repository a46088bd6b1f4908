"""The run folder of a federated run, which a killed run goes on from.

federated.json     what is run; another run is refused
rounds.jsonl       one record a round
state.safetensors  model, server, clients after the last round, written whole or not at all
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.core.atomic import write
from equipoise.core.tensorfile import TensorFile, write_tensors
from equipoise.federated.engine.history import Record

SETTINGS, ROUNDS, STATE = "federated.json", "rounds.jsonl", "state.safetensors"
FORMAT, AWAY = "equipoise.federated", "away"


class OtherRun(ValueError):
    """The folder holds a run of other settings."""


class Folder:
    """One run folder; `settings` are plain values that say what is run."""

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        """Make the folder, or open that of the same run. Raises OtherRun naming what differs."""
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        file, now = self.path / SETTINGS, json.loads(json.dumps(settings))
        if file.is_file():
            before = json.loads(file.read_text(encoding="utf-8"))
            other = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
            if other:
                told = "; ".join(f"{k} was {before.get(k)!r} and is {now.get(k)!r}" for k in other)
                raise OtherRun(f"{self.path} holds another run: {told}. Take another folder, or remove it")
        else:
            write(file, json.dumps(now, indent=2) + "\n")

    def save(
        self, record: Record, groups: Mapping[str, Mapping[str, Tensor]], extra: Mapping[str, str]
    ) -> None:
        """Keep a round: its record first, then the state, which makes it count."""
        line = json.dumps(record.as_json(), allow_nan=False)
        with (self.path / ROUNDS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        tensors = (
            (f"{group}/{name}", tensor.contiguous())
            for group, part in groups.items()
            for name, tensor in part.items()
        )
        away = [
            f"{group}/{name}"
            for group, part in groups.items()
            for name, tensor in part.items()
            if tensor.device.type != "cpu"
        ]
        metadata = {"format": FORMAT, "round": str(record.number), AWAY: json.dumps(away), **extra}
        write_tensors(self.path / STATE, tensors, metadata)

    def load(
        self, device: torch.device | str = "cpu"
    ) -> tuple[int, dict[str, dict[str, Tensor]], list[Record], dict[str, str]]:
        """The last round that counts, its tensors by group, the records up to it, what was noted.

        Tensors that did not lie on the CPU go to `device`. Round 0, without tensors, where none was kept.
        Raises ValueError for a file that is not a run's.
        """
        file = self.path / STATE
        if not file.is_file():
            (self.path / ROUNDS).unlink(missing_ok=True)
            return 0, {}, [], {}
        held = TensorFile(file)
        if held.metadata.get("format") != FORMAT:
            raise ValueError(f"{file} is not the state of a federated run")
        number = int(held.metadata["round"])
        away = set(json.loads(held.metadata.get(AWAY, "[]")))
        groups: dict[str, dict[str, Tensor]] = {}
        for name in held:
            group, _, rest = name.partition("/")
            own = held[name].clone()
            groups.setdefault(group, {})[rest] = own.to(device) if name in away else own
        return number, groups, self._records(number), dict(held.metadata)

    def _records(self, number: int) -> list[Record]:
        """The records up to a round; lines of rounds that were not finished are dropped from the file."""
        lines = (self.path / ROUNDS).read_text(encoding="utf-8").splitlines()
        kept: dict[int, str] = {}
        for line in lines:
            try:
                kept[json.loads(line)["number"]] = line
            except (ValueError, KeyError, TypeError):
                continue  # a line that a kill cut short belongs to a round that did not finish
        wanted = [kept[n] for n in range(1, number + 1) if n in kept]
        if len(wanted) != number:
            raise ValueError(f"{self.path / ROUNDS} lacks rounds that {STATE} is the outcome of")
        text = "".join(f"{line}\n" for line in wanted)
        if text.encode() != (self.path / ROUNDS).read_bytes():
            write(self.path / ROUNDS, text)
        return [Record.from_json(json.loads(line)) for line in wanted]
