"""A real deployment: TLS, authenticated nodes, processes that are killed. `make test-federated` runs it."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import torch

pytest.importorskip("flwr", reason="flwr is not installed; it comes with the extra federated")

from tests.federated.flower.loopback import HOST, Loopback, Service, loopback

from equipoise.cli.federateapp import write_app
from equipoise.core.tensorfile import TensorFile
from equipoise.federated import Local, federate
from equipoise.federated.engine.checkpoint import ROUNDS, STATE
from equipoise.federated.named import algorithm
from equipoise.problems import federation

pytestmark = pytest.mark.deployed
OPTIONS = {"client_count": "2", "dtype": "float64", "train": "120", "judged": "8"}
LOCAL = Local(epochs=2, learning_rate=0.2)
RUN = 240.0
"""Seconds that a run is given."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deployment")


@pytest.fixture(scope="module")
def app(place: Path) -> Path:
    """What `equipoise federate init` writes, unchanged."""
    write_app(place / "digits")
    return place / "digits"


@pytest.fixture(scope="module")
def deployed(place: Path) -> Iterator[Loopback]:
    """A SuperLink and two nodes: one known by the name of its key, one by its place in the federation."""
    with loopback(place / "flower") as deployment:
        kept = f'kept-folder="{place / "kept"}"'
        deployment.node("first", kept, name="client-00")
        deployment.node("second", f"partition-id=1 {kept}")
        for node in ("first", "second"):
            deployment.services[node].wait_for("SuperNode ID")
        yield deployment


def started(deployed: Loopback, app: Path, system: str, checkpoint: Path, **options: object) -> Service:
    told = {
        "algorithm": system,
        "options": " ".join(f"{key}={value}" for key, value in OPTIONS.items()),
        "checkpoint": str(checkpoint),
        "rounds": 2,
        "epochs": LOCAL.epochs,
        "learning-rate": LOCAL.learning_rate,
        "judged-by": "",
    }
    return deployed.run(app, told | options)


def differences(checkpoint: Path, system: str, rounds: int = 2) -> list[float]:
    """Largest relative differences to the simulator's weights, tensor by tensor."""
    found = TensorFile(checkpoint / STATE)
    run = federate(
        federation("digits-clients", **OPTIONS),
        algorithm(system),
        rounds=rounds,
        local=LOCAL,
        evaluate_every=rounds,
        batching="loop",
    )
    theirs = run.model.state_dict()
    assert found.metadata["round"] == str(rounds)
    assert all(found[f"model/{name}"].dtype == torch.float64 for name in theirs)
    return [
        float((found[f"model/{name}"] - tensor).abs().max() / tensor.abs().max())
        for name, tensor in theirs.items()
    ]


@pytest.mark.parametrize("system", ["FedAvg", "OMDTCH", "FedGTST"])
def test_the_weights_are_the_simulators(deployed: Loopback, app: Path, place: Path, system: str):
    run = started(deployed, app, system, place / system)
    assert run.finished(RUN) == 0, run.tail()
    assert "round 2 of 2: 2 of 2 clients counted" in run.text
    assert max(differences(place / system, system)) <= 1e-6


def test_nodes_judge_their_own_examples(deployed: Loopback, app: Path, place: Path):
    run = started(deployed, app, "FedAvg", place / "judged", rounds=1, **{"judged-by": "nodes"})
    assert run.finished(RUN) == 0, run.tail()
    clients = federation("digits-clients", **OPTIONS)
    theirs = federate(clients, algorithm("FedAvg"), rounds=1, local=LOCAL, batching="loop").test["last"]
    for client, judged in theirs.items():
        assert f"last, {client}: accuracy {judged['score']:.4f}" in run.text


def test_a_node_that_is_not_registered_is_refused(deployed: Loopback):
    stranger = deployed.node("stranger", 'client="client-00"', register=False)
    deployed.services["link"].wait_for("No SuperNode found with the given public key")
    time.sleep(3)  # it may try again, and be refused again
    assert "SuperNode ID" not in stranger.text
    assert "stranger" not in deployed.flwr("supernode", "list", "link", "--format", "json")
    stranger.kill()


def test_the_link_speaks_tls_with_a_certificate_that_is_checked(deployed: Loopback):
    with pytest.raises((URLError, ConnectionError, OSError)):
        urlopen(f"http://{HOST}:{deployed.port}/", timeout=5)
    with pytest.raises(URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urlopen(f"https://{HOST}:{deployed.port}/", timeout=5, context=ssl.create_default_context())


def test_a_node_killed_within_a_round_does_not_stop_the_run(deployed: Loopback, app: Path, place: Path):
    run = started(deployed, app, "FedAvg", place / "killed", timeout=60.0)
    second = deployed.services["second"]
    second.wait_for(r"ROUND 1\]\n.*Receiving: train message", after=len(second.text))
    second.kill()
    assert run.finished(RUN) == 0, run.tail()
    assert "round 1 of 2: 1 of 2 clients counted; client-01 lost" in run.text
    assert "round 2 of 2: 1 of 2 clients counted; client-01 lost" in run.text
    back = deployed.node("second", f'partition-id=1 kept-folder="{place / "kept"}"')
    back.wait_for("SuperNode ID", after=len(second.text))


def test_a_server_that_is_killed_goes_on_from_its_checkpoint(deployed: Loopback, app: Path, place: Path):
    """With a system whose clients keep something, and the whole SuperLink gone, in the middle of a round."""
    checkpoint = place / "restarted"
    run = started(deployed, app, "SCAFFOLD", checkpoint, rounds=3)
    end = time.monotonic() + RUN
    while not (checkpoint / STATE).exists():
        assert time.monotonic() < end, deployed.tails()
        time.sleep(0.05)
    deployed.services["link"].kill()
    run.kill()
    assert len((checkpoint / ROUNDS).read_text().splitlines()) < 3
    deployed.link()
    again = started(deployed, app, "SCAFFOLD", checkpoint, rounds=3)
    assert again.finished(RUN) == 0, again.tail()
    assert "goes on after round" in again.text
    assert max(differences(checkpoint, "SCAFFOLD", rounds=3)) <= 1e-6
