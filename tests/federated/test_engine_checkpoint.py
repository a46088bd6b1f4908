"""A killed run goes on as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from math import isnan, nan
from pathlib import Path

import pytest
import torch
from tests.federated import killed
from tests.federated.small import Small, flat

from equipoise.core.tensorfile import write_tensors
from equipoise.federated import FedAdam, FedAvg, Local, OtherRun, Participation, federate
from equipoise.federated.engine.checkpoint import AWAY, FORMAT, ROUNDS, SETTINGS, STATE, Folder
from equipoise.federated.engine.history import Record

ROOT = Path(__file__).parents[2]


def kill(folder, point, way, at=""):
    """Run in a process of its own until it is killed."""
    done = subprocess.run(
        [sys.executable, killed.__file__, str(folder), point, way],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DIE_AT": at},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def uninterrupted(way):
    if way not in _whole:
        _whole[way] = killed.run(None, way)
    return _whole[way]


_whole: dict = {}


@pytest.mark.parametrize(
    ("point", "way", "at", "finished"),
    [
        ("first", "batched", "", 1),
        ("training", "loop", "31", 1),
        ("record", "loop", "", 2),
        ("between", "batched", "", 2),
    ],
)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(tmp_path, point, way, at, finished):
    kill(tmp_path, point, way, at)
    told = []
    # the way that is asked for now is another one: the recorded one counts
    other = {"loop": "batched", "batched": "loop"}[way]
    found = killed.run(tmp_path, other, told=lambda record: told.append(record.number))
    whole = uninterrupted(way)
    assert told == list(range(finished + 1, killed.ROUNDS + 1))
    assert torch.equal(flat(found.model), flat(whole.model))
    assert found.history == whole.history
    assert found.test == whole.test
    assert found.choice.together == whole.choice.together
    lines = (tmp_path / ROUNDS).read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(1, killed.ROUNDS + 1))


def run(folder, rounds=3, algorithm=None, **options):
    options = {"local": Local(steps=2), "batching": "loop", "test": False, "evaluate_every": 2} | options
    return federate(Small(), algorithm or FedAdam(), rounds=rounds, out=folder, **options)


def test_a_finished_run_is_read_and_not_run_again(tmp_path):
    first = run(tmp_path)
    told = []
    again = run(tmp_path, told=told.append)
    assert told == []
    assert torch.equal(flat(first.model), flat(again.model))
    assert again.history == first.history


def test_a_run_goes_on_for_more_rounds(tmp_path):
    run(tmp_path, 2)
    assert torch.equal(flat(run(tmp_path, 4).model), flat(run(None, 4).model))
    with pytest.raises(ValueError, match="holds 4 rounds already, more than the 3 asked for"):
        run(tmp_path, 3)


def test_more_rounds_do_not_make_it_another_run_where_no_rhythm_was_asked_for(tmp_path):
    run(tmp_path, 2, evaluate_every=None)
    assert len(run(tmp_path, 60, evaluate_every=None).history) == 60


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"algorithm": FedAvg()}, "algorithm was"),
        ({"algorithm": FedAdam(tau=0.5)}, "algorithm was"),
        ({"local": Local(steps=3)}, "local was"),
        ({"participation": Participation(count=2)}, "participation was"),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"watch": "train"}, "watch was 'validation' and is 'train'"),
    ],
)
def test_another_run_is_refused_with_what_differs_and_left_alone(tmp_path, options, words):
    run(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(OtherRun, match=words):
        run(tmp_path, **options)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_another_federation_is_another_run(tmp_path):
    run(tmp_path)
    with pytest.raises(OtherRun, match="federation was"):
        federate(Small(network="mlp"), FedAdam(), rounds=3, out=tmp_path, local=Local(steps=2))


def test_without_a_state_the_run_begins_anew(tmp_path):
    """Killed between the first record and the first state."""
    run(tmp_path, 1)
    (tmp_path / STATE).unlink()
    assert [record.number for record in run(tmp_path, 2).history] == [1, 2]
    assert len((tmp_path / ROUNDS).read_text().splitlines()) == 2


def test_a_state_without_its_records_is_refused(tmp_path):
    run(tmp_path)
    (tmp_path / ROUNDS).write_text((tmp_path / ROUNDS).read_text().partition("\n")[2])
    with pytest.raises(ValueError, match=r"rounds\.jsonl lacks rounds that state\.safetensors"):
        run(tmp_path)


def test_a_foreign_file_is_refused(tmp_path):
    run(tmp_path)
    write_tensors(tmp_path / STATE, {"x": torch.ones(2)}.items(), {"format": "another"})
    with pytest.raises(ValueError, match="is not the state of a federated run"):
        run(tmp_path)


def test_settings_are_kept_with_the_run(tmp_path):
    run(tmp_path)
    held = json.loads((tmp_path / SETTINGS).read_text())
    assert held["seed"] == 0
    assert held["local"]["steps"] == 2
    assert held["federation"]["network"] == "softmax"


def test_tensors_come_back_with_their_types_shapes_and_order(tmp_path):
    folder = Folder(tmp_path, {})
    tensors = {
        "z": torch.randn(3, 2).T,
        "count": torch.tensor(3),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "none": torch.zeros(0, 4),
        "a/b": torch.tensor(True),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    folder.save(Record(number=1, asked=("a",)), {"server": tensors, "kept": {}}, {"together": "1"})
    number, groups, records, noted = folder.load()
    assert (number, noted["together"], records) == (1, "1", [Record(number=1, asked=("a",))])
    assert list(groups) == ["server"]
    assert list(groups["server"]) == list(tensors)
    for name, tensor in tensors.items():
        found = groups["server"][name]
        assert found.dtype == tensor.dtype
        assert torch.equal(found, tensor)


def test_a_history_is_json_that_any_program_reads(tmp_path):
    judged = {"a": {"loss": nan, "score": 0.5}, "b": {"loss": float("inf"), "score": 1.0}}
    record = Record(number=1, asked=("a",), judged=judged, loss={"a": 1.0})
    Folder(tmp_path, {}).save(record, {"model": {"w": torch.ones(1)}}, {})
    line = (tmp_path / ROUNDS).read_text()
    assert json.loads(line, parse_constant=pytest.fail)["judged"]["a"] == {"loss": None, "score": 0.5}
    again = Record.from_json(json.loads(line))
    assert isnan(again.judged["a"]["loss"])
    assert again.judged["b"]["score"] == 1.0
    assert again.loss == {"a": 1.0}


def test_tensors_that_lay_with_the_model_go_back_to_its_device(tmp_path):
    """The device "meta" stands for a GPU."""
    folder = Folder(tmp_path, {})
    folder.save(Record(number=1, asked=()), {"server": {"x": torch.ones(2)}}, {})
    entries = {"server/here": torch.ones(2), "server/there": torch.ones(2)}
    metadata = {"format": FORMAT, "round": "1", AWAY: json.dumps(["server/there"])}
    write_tensors(tmp_path / STATE, entries.items(), metadata)
    _, groups, _, _ = folder.load("meta")
    assert {name: tensor.device.type for name, tensor in groups["server"].items()} == {
        "here": "cpu",
        "there": "meta",
    }
