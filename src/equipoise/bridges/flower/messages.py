"""What travels: tensors as ArrayRecords by name, numbers as MetricRecords, words as ConfigRecords."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from safetensors.torch import load, save
from torch import Tensor

from equipoise.bridges.flower.peer import flwr
from equipoise.federated.clientalgorithm import Reply, Tensors
from equipoise.federated.engine.task import Trained

HEAD = "equipoise"
"""The record of the words that go with each message."""
MODEL = "model/"
"""What the names of records begin with that hold models to be judged."""
OTHER = "safetensors"
"""How an array is written whose dtype NumPy lacks; all others are as Flower writes them."""


def arrays(tensors: Mapping[str, Tensor]) -> Any:
    """An ArrayRecord of tensors of any dtype, device and shape, names and dtypes kept."""
    peer = flwr()
    record = peer.ArrayRecord()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        try:
            record[name] = peer.Array(tensor.numpy())
        except TypeError:
            label = str(tensor.dtype).removeprefix("torch.")
            record[name] = peer.Array(label, tuple(tensor.shape), OTHER, save({"": tensor}))
    return record


def tensors(content: Any, record: str, device: torch.device | str = "cpu") -> Tensors:
    """The tensors of one record of a message, {} where the message has no such record.

    Nothing is unpickled. Raises ValueError naming the tensor that cannot be read.
    """
    found: Tensors = {}
    for name, array in content.array_records.get(record, {}).items():
        try:
            tensor = load(array.data)[""] if array.stype == OTHER else torch.from_numpy(array.numpy())
        except Exception as error:  # whatever a client may have sent in place of an array
            raise ValueError(f"{record} {name!r} cannot be read: {error}") from error
        found[name] = tensor.to(device)
    return found


def numbers(side: Mapping[str, Tensor]) -> Any:
    """A MetricRecord of scalars and vectors, float64."""
    return flwr().MetricRecord({name: tensor.double().tolist() for name, tensor in side.items()})


def side(content: Any, record: str) -> Tensors:
    """The numbers of one record of a message, float64: scalars and vectors."""
    held = content.metric_records.get(record, {})
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in held.items()}


@dataclass(frozen=True, slots=True)
class Head:
    """The words of a message to a client.

    client: whose it is. run: one run of a server, the same after it went on from a checkpoint. settings:
    what server and client must agree on, as JSON. number: the round. counted: the last round to which this
    client's reply was added, 0 for none. effort: the share of the local steps to do. split: of examples,
    where models are to be judged.
    """

    client: str
    run: str
    settings: str
    number: int
    counted: int = 0
    effort: float = 1.0
    split: str = ""

    def record(self) -> Any:
        """As a ConfigRecord."""
        return flwr().ConfigRecord(asdict(self))

    @classmethod
    def of(cls, content: Any) -> Self:
        """Of a message; raises ValueError where it is not from a `Strategy`."""
        held = dict(content.config_records.get(HEAD, {}))
        try:
            return cls(**held)
        except TypeError as error:
            raise ValueError(f"the message is not from an Equipoise strategy: {error}") from error


def answer(trained: Trained) -> Any:
    """The content of a client's reply; what it keeps stays with it."""
    parts = {"update": trained.reply.update, "sent": trained.reply.sent, "buffers": trained.buffers}
    records = {key: arrays(part) for key, part in parts.items() if part}
    return flwr().RecordDict(records | {"side": numbers(trained.side)})


def answered(client: str, content: Any, device: torch.device | str) -> Trained:
    """A client's reply; raises ValueError naming the tensor that cannot be read."""
    update, sent, buffers = (tensors(content, key, device) for key in ("update", "sent", "buffers"))
    return Trained(client, Reply(update, sent, {}), side(content, "side"), buffers)
