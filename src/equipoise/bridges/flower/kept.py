"""What a client keeps from round to round, so that a round which the server did not count leaves no trace."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from equipoise.bridges.flower.messages import arrays, tensors
from equipoise.bridges.flower.peer import flwr
from equipoise.core.tensorfile import TensorFile, write_tensors
from equipoise.federated.clientalgorithm import Tensors

FOLDER = "kept-folder"
"""The key of a node's configuration that names a folder, for what is kept to outlive the node and the run."""
BASE, LATEST, ABOUT = "equipoise.base", "equipoise.latest", "equipoise.kept"


class Kept:
    """What one client keeps: as of the last round that the server counted, and as of its last reply.

    The server says with each message which reply of the client it added last. Where that is the latest one
    it becomes the base; any other latest is dropped, for its reply came too late, or the server died before
    it kept the round. Both lie in the node's memory (Flower's `context.state`), where they end with the
    run or the node, or in a folder.
    """

    def __init__(self, context: Any, client: str) -> None:
        self.state = context.state
        folder = context.node_config.get(FOLDER)
        self.file = None if folder is None else Path(str(folder)) / f"{quote(client, safe='')}.safetensors"

    def before(self, run: str, counted: int, device: torch.device | str = "cpu") -> Tensors | None:
        """What the client had after round `counted` of a run; None where that is not here."""
        about, parts = self._load()
        if about.get("run") != run:
            return None
        if counted and about["latest"] == str(counted):
            found = parts[LATEST]
        elif about["base"] == str(counted):
            found = parts[BASE]
        else:
            return None
        return {name: tensor.to(device) for name, tensor in found.items()}

    def after(self, run: str, counted: int, base: Tensors, number: int, latest: Tensors) -> None:
        """Keep both: as of round `counted`, and as of this round's reply."""
        about = {"run": run, "base": str(counted), "latest": str(number)}
        if self.file is None:
            self.state[ABOUT] = flwr().ConfigRecord(about)
            self.state[BASE], self.state[LATEST] = arrays(base), arrays(latest)
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        entries = [(f"{BASE}/{name}", tensor.contiguous()) for name, tensor in base.items()]
        entries += [(f"{LATEST}/{name}", tensor.contiguous()) for name, tensor in latest.items()]
        write_tensors(self.file, entries, about)

    def _load(self) -> tuple[dict[str, str], dict[str, dict[str, Tensor]]]:
        if self.file is None:
            about = {key: str(value) for key, value in self.state.config_records.get(ABOUT, {}).items()}
            return about, {part: tensors(self.state, part) for part in (BASE, LATEST)}
        parts: dict[str, dict[str, Tensor]] = {BASE: {}, LATEST: {}}
        if not self.file.is_file():
            return {}, parts
        held = TensorFile(self.file, memory_map=False)
        for name in held:
            part, _, rest = name.partition("/")
            parts[part][rest] = held[name]
        return dict(held.metadata), parts
