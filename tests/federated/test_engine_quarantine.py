"""What is refused of the replies of a round, with which words; and that the rest is as if it had not come."""

from dataclasses import replace

import pytest
import torch
from tests.federated.small import Small, flat

from equipoise.federated import (
    Attack,
    FedAdam,
    FedAvg,
    Local,
    NotANumber,
    NoUpdates,
    Participation,
    Reply,
    federate,
)
from equipoise.federated.engine.checkpoint import ROUNDS, STATE, Folder
from equipoise.federated.engine.coordinator import Coordinator
from equipoise.federated.engine.quarantine import admit
from equipoise.federated.engine.simulator import Simulator
from equipoise.federated.engine.task import Trained

PARAMETERS = {"w": torch.zeros(2, 3), "b": torch.zeros(2)}
ASKED = ("a", "b", "c", "d")


def honest(client):
    update = {"w": torch.ones(2, 3), "b": torch.ones(2)}
    side = {name: torch.tensor(5.0, dtype=torch.float64) for name in ("samples", "steps", "loss_during")}
    return Trained(client, Reply(update, {"norm": torch.tensor(1.0)}, {}), side, {"mean": torch.zeros(3)})


def spoilt(client="b", *, update=None, sent=None, side=None, buffers=None):
    one = honest(client)
    reply = Reply(
        one.reply.update if update is None else update, one.reply.sent if sent is None else sent, {}
    )
    return replace(
        one, reply=reply, side=one.side | (side or {}), buffers=one.buffers if buffers is None else buffers
    )


W, B = torch.ones(2, 3), torch.ones(2)
NAN, INF = torch.tensor([1.0, torch.nan]), torch.tensor([torch.inf, 1.0])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (spoilt(update={"w": W, "b": NAN}), "update 'b' is not finite"),
        (spoilt(update={"w": W, "b": INF}), "update 'b' is not finite"),
        (spoilt(update={"w": W, "b": -INF}), "update 'b' is not finite"),
        (spoilt(update={"w": W, "b": torch.ones(3)}), "update 'b' has shape (3,), not (2,)"),
        (spoilt(update={"w": W, "b": B.long()}), "update 'b' is torch.int64, not floating point"),
        (spoilt(update={"w": W, "b": B.double()}), "sends other tensors, or of other shapes or types"),
        (spoilt(update={"w": W}), "update lacks ['b']"),
        (spoilt(update={"w": W, "b": B, "x": B}), "update lacks [] and has ['x'] besides"),
        (spoilt(update={}), "sends other tensors"),
        (spoilt(sent={}), "sends other tensors"),
        (spoilt(sent={"norm": torch.ones(2)}), "sends other tensors"),
        (spoilt(sent={"norm": torch.tensor(torch.nan)}), "sent 'norm' is not finite"),
        (spoilt(side={"loss_during": torch.tensor(torch.nan).double()}), "side 'loss_during' is not finite"),
        (spoilt(side={"samples": torch.tensor(-4.0).double()}), "says that its samples are -4.0"),
        (spoilt(side={"steps": torch.tensor(0.0).double()}), "says that its steps are 0.0"),
        (spoilt(buffers={"mean": torch.tensor([0, torch.nan, 0])}), "buffer 'mean' is not finite"),
        (spoilt(buffers={}), "sends other tensors"),
        (spoilt("z"), "was not asked in this round"),
    ],
)
def test_a_reply_that_is_not_whole_is_refused_by_name(bad, reason):
    others = [honest(name) for name in "dac"]
    for trained in ([bad, *others], [*others, bad]):
        replies, faults = admit(trained, ASKED, PARAMETERS)
        assert list(faults) == [bad.client]
        assert faults[bad.client].startswith(reason)
        assert replies.names == ("a", "c", "d")
        assert replies.update["w"].shape == (3, 2, 3)
        assert replies.side["samples"].tolist() == [5.0] * 3


def test_numbers_whose_sum_overflows_are_still_finite():
    large = spoilt(update={"w": torch.full((2, 3), 3e38), "b": B})
    replies, faults = admit([honest("a"), large], ASKED, PARAMETERS)
    assert faults == {}
    assert replies.names == ("a", "b")


def test_a_client_that_replies_twice_counts_not_at_all():
    replies, faults = admit([honest("a"), honest("b"), honest("b"), honest("b")], ASKED, PARAMETERS)
    assert faults == {"b": "replied 3 times"}
    assert replies.names == ("a",)


def test_replies_that_are_malformed_do_not_say_what_is_usual():
    """Three that lack a tensor are refused for that, and do not make the one that is whole the odd one."""
    trained = [honest("a"), *(spoilt(name, update={"w": W}) for name in "bcd")]
    replies, faults = admit(trained, ASKED, PARAMETERS)
    assert replies.names == ("a",)
    assert set(faults.values()) == {"update lacks ['b']"}


def test_nothing_is_left_where_nothing_is_whole():
    replies, faults = admit([spoilt("a", update={"w": W, "b": NAN}), spoilt("z")], ASKED, PARAMETERS)
    assert replies is None
    assert set(faults) == {"a", "z"}
    assert admit([], ASKED, PARAMETERS) == (None, {})


class Sending(Attack):
    """Sends what a function makes of the honest work."""

    def __init__(self, made):
        self.made = made

    def replies(self, honest, generator):
        return self.made(honest)


def changed(**update):
    return Sending(
        lambda honest: [
            replace(honest, reply=replace(honest.reply, update={**honest.reply.update, **update}))
        ]
    )


ATTACKS = {
    "NaN": NotANumber(),
    "infinity": changed(bias=torch.full((10,), torch.inf, dtype=torch.float64)),
    "shape": changed(bias=torch.zeros(9, dtype=torch.float64)),
    "strange": changed(besides=torch.zeros(2, dtype=torch.float64)),
    "missing": Sending(lambda honest: [replace(honest, reply=replace(honest.reply, update={}))]),
    "duplicate": Sending(lambda honest: [honest, honest]),
    "impostor": Sending(lambda honest: [replace(honest, client="e")]),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("way", ["loop", "batched"])
def test_the_model_is_as_if_the_client_had_not_been_there(name, way):
    options = {"rounds": 2, "local": Local(steps=2, batch_size=4), "batching": way, "test": False}
    found = federate(Small(), FedAvg(), attacks={"b": ATTACKS[name]}, **options)
    away = {"b": 1e-9} | ({"e": 1e-9} if name == "impostor" else {})
    without = federate(Small(), FedAvg(), participation=Participation(probability=away), **options)
    refused = "e" if name == "impostor" else "b"
    assert [list(record.quarantined) for record in found.history] == [[refused]] * 2
    assert all("b" not in record.loss for record in found.history)
    torch.testing.assert_close(flat(found.model), flat(without.model), rtol=1e-12, atol=1e-15)


def test_where_all_fail_the_run_raises_and_nothing_of_it_has_changed(tmp_path):
    coordinator = Coordinator(Small(), FedAdam(), local=Local(steps=2), folder=Folder(tmp_path, {}))
    simulator = Simulator(coordinator)
    simulator.round()
    held = {name: (tmp_path / name).read_bytes() for name in (STATE, ROUNDS)}
    before = coordinator.parameters, coordinator.state, coordinator.history[:], simulator.kept
    copies = [{name: t.clone() for name, t in part.items()} for part in before[:2]]
    simulator.attacks = dict.fromkeys("abcde", NotANumber())
    with pytest.raises(
        NoUpdates, match=r"round 2: no update can be used\. a: update 'weight' is not finite; b: "
    ):
        simulator.round()
    assert {name: (tmp_path / name).read_bytes() for name in (STATE, ROUNDS)} == held
    assert (coordinator.parameters, coordinator.state, coordinator.history, simulator.kept) == before
    for part, copy in zip(before[:2], copies, strict=True):
        assert all(torch.equal(part[name], copy[name]) for name in copy)
    simulator.attacks = {}
    assert simulator.round().number == 2


def test_a_server_that_fails_leaves_the_round_undone(tmp_path):
    """An update that is not finite, of finite replies: the rate is far too large."""
    far, local = FedAvg(learning_rate=1e308), Local(learning_rate=100.0)
    coordinator = Coordinator(Small(), far, local=local, folder=Folder(tmp_path, {}))
    simulator = Simulator(coordinator)
    first = coordinator.parameters
    with pytest.raises(ValueError, match="round 1: the update of 'weight' is not finite, of finite replies"):
        simulator.round()
    assert coordinator.parameters is first
    assert coordinator.number == 0
    assert not (tmp_path / STATE).exists()
