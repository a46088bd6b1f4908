"""The server's part over a grid within the process: the simulator's weights, and every way to go wrong."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("flwr", reason="flwr is not installed; it comes with the extra federated")

from flwr.app import ArrayRecord, RecordDict
from tests.federated.flower.grid import Grid, Node

from equipoise.bridges.flower import NoQuorum, Strategy, client_app
from equipoise.federated import Finished, Local, Participation, federate
from equipoise.federated.engine.checkpoint import OtherRun
from equipoise.federated.engine.quarantine import NoUpdates
from equipoise.federated.named import algorithm, systems
from equipoise.problems import federation

LOCAL = Local(epochs=2, batch_size=16, learning_rate=0.2)
SYSTEMS = [name for name, (room, _) in systems().items() if room == "federated" and name != "ByRule"]
RULES = ["UPGrad", "Krum", "Tchebycheff"]
"""Rules of the library at the server: by Gramian, by rows, by losses."""


def digits(clients: int = 3) -> Any:
    return federation("digits-clients", client_count=clients, dtype="float64", train=120, judged=8)


def grid(system: str = "FedAvg", clients: int = 3, local: Local = LOCAL, **options: Any) -> Grid:
    nodes = [
        Node(
            client_app(digits(clients), algorithm(system), local, seed=5), {"partition-id": place}, **options
        )
        for place in range(clients)
    ]
    return Grid(*nodes)


def strategy(system: str = "FedAvg", clients: int = 3, **options: Any) -> Strategy:
    told = {"rounds": 2, "seed": 5, "timeout": 20.0, "judged_by": None} | options
    return Strategy(digits(clients), algorithm(system), LOCAL, **told)


def simulated(system: str = "FedAvg", clients: int = 3, **options: Any) -> Finished:
    told = {"rounds": 2, "seed": 5, "batching": "loop"} | options
    return federate(digits(clients), algorithm(system), local=LOCAL, **told)


def same(one: Finished, other: Finished) -> bool:
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("system", [*SYSTEMS, *RULES])
def test_the_weights_are_the_simulators_to_the_last_bit(system):
    ours, theirs = strategy(system).start(grid(system)), simulated(system)
    assert same(ours, theirs)
    for name, model in theirs.outputs.items():
        for key, tensor in model.state_dict().items():
            assert torch.equal(ours.outputs[name].state_dict()[key], tensor)
    assert [r.down for r in ours.history] == [r.down for r in theirs.history]
    assert [r.up for r in ours.history] == [r.up for r in theirs.history]


def test_the_same_clients_take_part_as_in_the_simulator():
    some = Participation(count=2, dropout=0.3, effort=(0.4, 1.0))
    ours = strategy(clients=5, participation=some, rounds=4).start(grid(clients=5))
    theirs = simulated(clients=5, participation=some, rounds=4)
    assert [(r.asked, r.lost) for r in ours.history] == [(r.asked, r.lost) for r in theirs.history]
    assert same(ours, theirs)


def test_nodes_judge_as_the_server_would():
    ours, theirs = strategy("AdaOMDTCH", judged_by="nodes").start(grid("AdaOMDTCH")), simulated("AdaOMDTCH")
    assert ours.test.keys() == theirs.test.keys()
    for label, clients in theirs.test.items():
        for name, found in clients.items():
            assert ours.test[label][name] == pytest.approx(found, rel=1e-12)
    assert ours.history[-1].judged == theirs.history[-1].judged
    at_server = strategy("AdaOMDTCH", judged_by="server").start(grid("AdaOMDTCH"))
    assert at_server.test == theirs.test


def test_a_node_is_known_by_its_configuration_by_the_name_of_its_key_or_left_out():
    app = client_app(digits(2), algorithm("FedAvg"), LOCAL, seed=5)
    named, keyed = Node(app, {"client": "client-01"}), Node(app, name="client-00")
    claims, nameless, strange = Node(app, {"client": "client-01"}), Node(app), Node(app, {"partition-id": 7})
    run = strategy(clients=2)
    assert same(run.start(Grid(named, keyed, claims, nameless, strange)), simulated(clients=2))
    assert keyed.received == ["train"] * 2
    assert named.received == ["query", "train", "train"]
    assert [node.received for node in (claims, nameless, strange)] == [["query"]] * 3


def test_a_lost_node_does_not_stop_the_run_and_is_not_waited_for_twice():
    nodes = grid()
    nodes.nodes[102].gone = True
    nodes.nodes[102].name = "client-02"
    told = strategy(timeout=0.6, rounds=3).start(nodes)
    assert [record.lost for record in told.history] == [("client-02",)] * 3
    assert nodes.nodes[102].received == ["train"]
    assert [sorted(record.loss) for record in told.history] == [["client-00", "client-01"]] * 3


def test_a_late_reply_is_left_out_and_its_client_comes_back():
    nodes = grid("SCAFFOLD")
    nodes.nodes[100].name, nodes.nodes[100].late = "client-00", 1.0

    def quick(record: Any) -> None:
        nodes.nodes[100].late = 0.0
        if record.number == 1:
            time.sleep(0.8)  # the reply of round 1 comes now

    told = strategy("SCAFFOLD", timeout=0.5, rounds=3, on_round=quick).start(nodes)
    assert [record.lost for record in told.history] == [("client-00",), (), ()]
    absent = simulated("SCAFFOLD", rounds=3, participation=Absent())
    assert same(told, absent)


@dataclass(frozen=True, kw_only=True)
class Absent(Participation):
    """The first client does not answer in the first round."""

    def turn(self, clients: Any, seed: int, number: int) -> Any:
        turn = super().turn(clients, seed, number)
        return type(turn)(turn.names, turn.efforts, frozenset({clients[0]} if number == 1 else ()))


def test_too_few_answers_are_no_quorum_and_the_message_names_the_others(tmp_path: Path):
    nodes = grid()
    nodes.nodes[102].gone = True
    del nodes.nodes[101]
    with pytest.raises(
        NoQuorum, match=r"round 1: 1 usable updates, and a quorum is 2.*client-01: has no node"
    ):
        strategy(timeout=0.5, quorum=2, checkpoint=tmp_path / "run").start(nodes)
    back = strategy(timeout=20, quorum=2, checkpoint=tmp_path / "run").start(grid())
    assert same(back, simulated())


def test_nobody_at_all_is_no_quorum_either():
    with pytest.raises(NoQuorum, match="client-00: has no node"):
        strategy(timeout=0.2).start(Grid())


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (lambda content: spoil(content, float("nan")), "update '1.weight' is not finite"),
        (lambda content: content["update"].pop("1.weight"), "update lacks ['1.weight']"),
        (lambda content: content["side"].pop("steps"), "sends other tensors"),
        (lambda content: spoil(content, b"no array"), "update '1.weight' cannot be read"),
        (lambda content: content.pop("update"), "sends other tensors"),
    ],
)
def test_a_reply_that_cannot_be_used_is_quarantined_by_name(tamper: Callable[..., None], reason: str):
    nodes = grid()
    nodes.nodes[101].tamper = tamper
    told = strategy().start(nodes)
    for record in told.history:
        assert list(record.quarantined) == ["client-01"]
        assert reason in record.quarantined["client-01"]
    assert all(parameter.isfinite().all() for parameter in told.model.parameters())


def spoil(content: RecordDict, value: float | bytes) -> None:
    record = content.array_records["update"]
    array = record["1.weight"]
    if isinstance(value, bytes):
        array.data = value
    else:
        weights = array.numpy()
        weights[0, 0] = value
        record["1.weight"] = ArrayRecord([weights]).popitem()[1]


def test_a_client_that_raises_is_named_and_all_raising_is_an_error():
    nodes = grid()
    nodes.nodes[100] = Node(client_app(digits(3), algorithm("FedAvg"), LOCAL, seed=6), {"partition-id": 0})
    told = strategy().start(nodes)
    assert told.history[0].quarantined == {
        "client-00": "ValueError: server and client differ: seed is 5 there and 6 here"
    }
    with pytest.raises(
        NoUpdates, match=r"round 1: no update can be used. client-00: ValueError: .*FedProx|mu"
    ):
        strategy("FedProx").start(grid("FedAvg"))


@pytest.mark.parametrize("system", ["FedAvg", "OMDTCH", "SCAFFOLD"])
def test_a_server_that_dies_goes_on_from_its_checkpoint(system: str, tmp_path: Path):
    """Also where a client had trained for a round that the server did not keep."""
    folder, nodes = tmp_path / "run", grid(system)

    def die(record: Any) -> None:
        if record.number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        strategy(system, rounds=3, checkpoint=folder, on_round=die).start(nodes)
    saved = (folder / "state.safetensors").read_bytes()
    with pytest.raises(KeyboardInterrupt):  # round 2 is trained, and lost
        strategy(system, rounds=3, checkpoint=folder, on_round=lambda record: die_always()).start(nodes)
    (folder / "state.safetensors").write_bytes(saved)
    seen: list[int] = []
    last = strategy(system, rounds=3, checkpoint=folder, on_round=lambda r: seen.append(r.number)).start(
        nodes
    )
    assert seen == [2, 3]
    assert same(last, simulated(system, rounds=3))


def die_always() -> None:
    raise KeyboardInterrupt


def test_what_a_client_keeps_can_outlive_its_node(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    def one_round(kept: bool, folder: Path) -> Finished:
        nodes = grid("SCAFFOLD")
        for node in nodes.nodes.values():
            node.config |= {"kept-folder": str(tmp_path / "kept")} if kept else {}
        rounds = 1 if not (folder / "state.safetensors").exists() else 2
        return strategy("SCAFFOLD", rounds=rounds, checkpoint=folder).start(nodes)

    one_round(True, tmp_path / "run")
    assert same(one_round(True, tmp_path / "run"), simulated("SCAFFOLD"))
    one_round(False, tmp_path / "other")
    with caplog.at_level("WARNING", "flwr"):
        assert not same(one_round(False, tmp_path / "other"), simulated("SCAFFOLD"))
    assert "client client-00 has lost what it kept, and began anew in round 2" in caplog.text


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path):
    strategy(checkpoint=tmp_path).start(grid())
    with pytest.raises(OtherRun, match="algorithm was"):
        strategy("FedProx", checkpoint=tmp_path).start(grid("FedProx"))
    with pytest.raises(OtherRun, match="engine was 'flower' and is None"):
        simulated(out=tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"quorum": 0}, "quorum is 0"),
        ({"quorum": 1.5}, "quorum is 1.5"),
        ({"timeout": 0}, "timeout is 0"),
        ({"judged_by": "clients"}, "judged_by is 'clients'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        strategy(**options)
