"""Runs by `flwr run`, in Flower's own simulation: the simulator's weights, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

pytest.importorskip("flwr", reason="flwr is not installed; it comes with the extra federated")

from equipoise.bridges.flower import run_on_flower
from equipoise.federated import Finished, Local, Participation, federate
from equipoise.federated.named import algorithm
from equipoise.problems import federation

OPTIONS = {"client_count": "3", "dtype": "float64", "train": "120", "judged": "8"}
LOCAL = Local(batch_size=16)


def simulated(system: str, **options: object) -> Finished:
    clients = federation("digits-clients", **OPTIONS)
    return federate(clients, algorithm(system), local=LOCAL, batching="loop", **options)


def same(one: Finished, other: Finished) -> bool:
    theirs = other.model.state_dict()
    return all(torch.equal(one.model.state_dict()[name], tensor) for name, tensor in theirs.items())


def left(place: Path) -> list[str]:
    """The titles of processes that work in a folder below `place`, also where it is gone by now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str((process / "cwd").readlink()).startswith(str(place)):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.deployed
def test_a_run_is_the_simulators_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told: list[int] = []
    some = Participation(count=2, effort=(0.5, 1.0))
    ours = run_on_flower(
        "digits-clients",
        OPTIONS,
        "SCAFFOLD",
        rounds=3,
        local=LOCAL,
        participation=some,
        seed=2,
        out=tmp_path / "run",
        told=lambda record: told.append(record.number),
    )
    theirs = simulated("SCAFFOLD", rounds=3, participation=some, seed=2)
    assert same(ours, theirs)
    assert ours.history == theirs.history
    assert ours.test == theirs.test
    assert told == [1, 2, 3]
    assert left(tmp_path) == []
    began = time.monotonic()
    again = run_on_flower(
        "digits-clients",
        OPTIONS,
        "SCAFFOLD",
        rounds=3,
        local=LOCAL,
        participation=some,
        seed=2,
        out=tmp_path / "run",
    )
    assert same(again, theirs)
    assert time.monotonic() - began < 5, "a run that is done is read, not run again"


@pytest.mark.deployed
def test_the_command_line_reports_a_run_on_flower(tmp_path: Path):
    options = [word for key, value in OPTIONS.items() for word in ("--set", f"{key}={value}")]
    command = ["digits-clients", "--engine", "flower", "--rounds", "2", "--batch-size", "16", *options]
    done = subprocess.run(
        [sys.executable, "-m", "equipoise.cli.main", "federate", *command, "--out", str(tmp_path), "--json"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    theirs = simulated("FedAvg", rounds=2).test["last"]
    standings = json.loads(done.stdout)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    worst = min(judged["score"] for judged in theirs.values())
    assert f"{worst}" in json.dumps(standings)


@pytest.mark.deployed
def test_an_interrupted_run_ends_flower_and_goes_on(tmp_path: Path):
    script = (
        "import tempfile\n"
        "from equipoise.bridges.flower import run_on_flower; from equipoise.federated import Local\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        f"run_on_flower('digits-clients', {OPTIONS!r}, 'FedAvg', rounds=400, local=Local(batch_size=16),\n"
        f"    out={str(tmp_path)!r}, evaluate_every=400, test=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    try:
        end = time.monotonic() + 120
        while not (tmp_path / "state.safetensors").exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        assert len(left(tmp_path)) > 3
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) != 0
    finally:
        process.kill()
    assert left(tmp_path) == []
    done = len((tmp_path / "rounds.jsonl").read_text().splitlines())
    assert 1 <= done < 400


def test_a_run_that_flower_refuses_ends_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A command that fails, in place of Flower's: what it says is what the error says."""
    from equipoise.bridges.flower import processes

    folder = tmp_path / "commands"
    folder.mkdir()
    fake = folder / "flower-superlink"
    fake.write_text("#!/bin/sh\necho 'Error: the port is taken'\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(folder / "python"))
    with pytest.raises(
        RuntimeError, match=r"does not answer: Error: the port is taken \(all of it: .*flower.log"
    ):
        run_on_flower("digits-clients", OPTIONS, "FedAvg", rounds=1, out=tmp_path / "run")


def test_settings_are_refused_before_flower_is_started(tmp_path: Path):
    with pytest.raises(ValueError, match="no federated system or rule is called 'FedAvgg'; nearest: FedAvg"):
        run_on_flower("digits-clients", OPTIONS, "FedAvgg", rounds=1, out=tmp_path / "run")
    with pytest.raises(ValueError, match="client_number"):
        run_on_flower("digits-clients", {"client_number": 2}, "FedAvg", rounds=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
