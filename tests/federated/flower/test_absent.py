"""Without Flower: what the bridge says, and that nothing else needs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from equipoise.bridges.flower import Strategy, client_app, run_on_flower
from equipoise.federated import FedAvg
from equipoise.problems import federation


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "flwr"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "flwr", None)


@pytest.mark.usefixtures("absent")
def test_the_extra_is_named_before_anything_is_written(tmp_path: Path):
    words = r"flwr is not installed; it comes with: pip install 'equipoise\[federated\]'"
    with pytest.raises(ImportError, match=words):
        client_app(federation("digits-clients"), FedAvg())
    with pytest.raises(ImportError, match=words):
        run_on_flower("digits-clients", {}, "FedAvg", rounds=1, out=tmp_path / "run")
    with pytest.raises(ImportError, match=words):
        Strategy(federation("digits-clients"), FedAvg(), rounds=1, checkpoint=tmp_path / "run").start(None)
    assert not (tmp_path / "run").exists()


def test_flower_is_not_imported_before_it_is_asked_for_and_sends_nothing_then():
    """Also where the user's environment says nothing; what it says stays."""
    script = (
        "import os, sys, equipoise.bridges.flower as bridge; bridge.Strategy; bridge.run_on_flower\n"
        "assert not any(name.partition('.')[0] in ('flwr', 'ray') for name in sys.modules)\n"
        "from equipoise.bridges.flower.peer import flwr\n"
        "try:\n    flwr()\nexcept ImportError:\n    pass\n"
        "print(os.environ['FLWR_TELEMETRY_ENABLED'], os.environ['FLWR_DISABLE_UPDATE_CHECK'])\n"
    )
    bare = {key: value for key, value in os.environ.items() if not key.startswith("FLWR_")}
    for given, told in (({}, "0 1"), ({"FLWR_TELEMETRY_ENABLED": "1"}, "1 1")):
        done = subprocess.run(
            [sys.executable, "-c", script], env=bare | given, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == told
