"""What travels arrives as it was."""

import pytest
import torch

pytest.importorskip("flwr", reason="flwr is not installed; it comes with the extra federated")

from flwr.app import RecordDict
from tests.federated.flower.grid import wired

from equipoise.bridges.flower.messages import Head, answer, answered, arrays, tensors
from equipoise.federated.clientalgorithm import Reply
from equipoise.federated.engine.task import Trained

KINDS = {
    "double": torch.randn(3, 4, dtype=torch.float64),
    "half": torch.randn(2, 2).half(),
    "brain": torch.randn(5).bfloat16(),
    "eighth": torch.randn(5).to(torch.float8_e4m3fn),
    "complex": torch.randn(2, dtype=torch.complex64),
    "word": torch.tensor([2**62, -1]),
    "byte": torch.arange(3, dtype=torch.uint8),
    "truth": torch.tensor([True, False]),
    "scalar": torch.tensor(1.5),
    "empty": torch.empty(0, 3),
    "strided": torch.randn(4, 6).T[::2],
    "layer.0/weight": torch.tensor([float("nan"), float("inf")]),
}


def test_tensors_keep_their_names_dtypes_shapes_and_bits():
    back = tensors(wired(RecordDict({"update": arrays(KINDS)})), "update")
    assert list(back) == list(KINDS)
    for name, tensor in KINDS.items():
        assert back[name].dtype == tensor.dtype
        assert back[name].shape == tensor.shape
        raw = (
            t.contiguous().view(torch.uint8) if t.dim() else t.view(1).view(torch.uint8)
            for t in (back[name], tensor)
        )
        assert torch.equal(*raw)


def test_what_flower_writes_its_own_tools_can_read():
    record = arrays({"weight": KINDS["double"]})
    assert (record["weight"].numpy() == KINDS["double"].numpy()).all()


def test_a_reply_comes_back_without_what_the_client_keeps():
    numbers = {"loss": torch.tensor(0.1, dtype=torch.float64), "label_counts": torch.tensor([1.0, 0.0])}
    sent = Trained(
        "alice", Reply({"w": KINDS["double"]}, {"rank": KINDS["word"]}, {"own": KINDS["half"]}), numbers, {}
    )
    back = answered("alice", wired(answer(sent)), "cpu")
    assert back.client == "alice"
    assert torch.equal(back.reply.update["w"], KINDS["double"])
    assert torch.equal(back.reply.sent["rank"], KINDS["word"])
    assert back.reply.kept == {}
    assert back.side["loss"].dtype == torch.float64
    assert back.side["loss"].item() == 0.1
    assert back.side["label_counts"].tolist() == [1.0, 0.0]


def test_an_array_that_is_none_is_named():
    content = RecordDict({"update": arrays({"weight": KINDS["double"]})})
    content.array_records["update"]["weight"].data = b"\x80\x04pickle"
    with pytest.raises(ValueError, match="update 'weight' cannot be read"):
        tensors(content, "update")


def test_a_message_of_another_program_is_refused():
    with pytest.raises(ValueError, match="not from an Equipoise strategy"):
        Head.of(RecordDict())
    head = Head("alice", "run", "{}", 3, 2, 0.5)
    assert Head.of(wired(RecordDict({"equipoise": head.record()}))) == head
