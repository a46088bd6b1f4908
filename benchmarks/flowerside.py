"""`flwr run` in Flower's simulation, cold and warm: its own FedAvg, and our strategy; facts as JSON lines.

Ten clients, three rounds of digits, a 64-64-10 network. Run by a Python that has flwr:

    python -m benchmarks.flowerside

cold: seconds from nothing to the end of the run, with the start of Flower's server and simulation. warm: the
same for a second run of the same server. cold_rounds, warm_rounds: what the strategy took of these, start of
Ray's workers included. megabytes: the largest sum of the resident memory of all processes, of which
shared pages count for each.
"""

import json
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

from equipoise.bridges.flower.processes import HOST, Command, free_port, start

CLIENTS, ROUNDS = 10, 3
PROJECT = """[project]
name = "timed"
version = "1"
description = "timed"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "nobody"

[tool.flwr.app.components]
serverapp = "timed.server:app"
clientapp = "timed.client:app"

[tool.flwr.app.config]
folder = ""
"""
PLAIN = {
    "server": """
import time

from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from equipoise.problems import federation

app = ServerApp()


@app.main()
def main(grid, context):
    model = federation("digits-clients").model()
    began = time.perf_counter()
    strategy = FedAvg(min_train_nodes=10, min_evaluate_nodes=10, min_available_nodes=10)
    strategy.start(grid, ArrayRecord(model.state_dict()), num_rounds=3)
    print(f"SECONDS {time.perf_counter() - began}", flush=True)
""",
    "client": """
import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from equipoise.problems import federation

app = ClientApp()
HELD = federation("digits-clients")


def received(message, context):
    model = HELD.model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    return model, HELD.clients[context.node_config["partition-id"]]


@app.train()
def train(message, context):
    model, client = received(message, context)
    inputs, targets = HELD.examples(client, "train")
    steps = torch.optim.SGD(model.parameters(), lr=0.1)
    for rows in torch.randperm(len(targets)).split(32):
        steps.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs[rows]), targets[rows]).backward()
        steps.step()
    metrics = MetricRecord({"num-examples": len(targets)})
    arrays = ArrayRecord(model.state_dict())
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
@torch.no_grad()
def evaluate(message, context):
    model, client = received(message, context)
    inputs, targets = HELD.examples(client, "validation")
    right = (model(inputs).argmax(1) == targets).double().mean().item()
    metrics = MetricRecord({"num-examples": len(targets), "accuracy": right})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
""",
}
OURS = {
    "server": """
import time
from pathlib import Path

from flwr.serverapp import ServerApp

from equipoise.bridges.flower import Strategy
from equipoise.federated import FedAvg
from equipoise.problems import federation

app = ServerApp()


@app.main()
def main(grid, context):
    began = time.perf_counter()
    folder = context.run_config["folder"]
    Strategy(federation("digits-clients"), FedAvg(), rounds=3, checkpoint=folder).start(grid)
    print(f"SECONDS {time.perf_counter() - began}", flush=True)
""",
    "client": """
from equipoise.bridges.flower import client_app
from equipoise.federated import FedAvg
from equipoise.problems import federation

app = client_app(federation("digits-clients"), FedAvg())
""",
}


def measure(name: str, app: dict[str, str]) -> dict[str, float | str]:
    """Two runs on one server: the first with its start, the second without."""
    with tempfile.TemporaryDirectory() as place:
        folder, home = Path(place), Path(place) / "home"
        (folder / "app" / "timed").mkdir(parents=True)
        home.mkdir()
        (folder / "app" / "pyproject.toml").write_text(PROJECT)
        for side, text in app.items():
            (folder / "app" / "timed" / f"{side}.py").write_text(text)
        (folder / "app" / "timed" / "__init__.py").write_text("")
        port = free_port()
        told = (
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{HOST}:{port}"\ninsecure = true\n'
        )
        (home / "config.toml").write_text(told)
        link = ("--simulation", "--insecure", "--host", HOST, "--port", str(port))
        with (folder / "log").open("wb") as log:
            began = time.perf_counter()
            server = start(log, home, "flower-superlink", *link, "--disable-runtime-dependency-installation")
            watch = Watch(server)
            try:
                if not server.answers(port, 60):
                    raise RuntimeError((folder / "log").read_text())
                one = run(folder, home, log, "one")
                cold = time.perf_counter() - began
                began = time.perf_counter()
                two = run(folder, home, log, "two")
                warm = time.perf_counter() - began
            finally:
                watch.over.set()
                server.end()
        return {
            "system": name,
            "cold": cold,
            "cold_rounds": one,
            "warm": warm,
            "warm_rounds": two,
            "megabytes": watch.most,
        }


def run(folder: Path, home: Path, log: IO[bytes], name: str) -> float:
    """One `flwr run`, to its end; the seconds that its server told."""
    own = folder / f"{name}.log"
    settings = ("--run-config", f'folder="{folder / name}"')
    sizes = (
        "--federation-config",
        f"num-supernodes={CLIENTS} client-resources-num-cpus=1 init-args-num-cpus=2",
    )
    with own.open("wb") as text:
        client = start(text, home, "flwr", "run", str(folder / "app"), "here", "--stream", *settings, *sizes)
        try:
            client.process.wait(300)
        finally:
            client.end()
    found = re.search(r"SECONDS ([0-9.]+)", own.read_text(errors="replace"))
    if found is None:
        raise RuntimeError(own.read_text(errors="replace"))
    return float(found[1])


class Watch(threading.Thread):
    """The largest sum of the memory of a command's processes, looked at every half second."""

    def __init__(self, command: Command) -> None:
        super().__init__(daemon=True)
        self.command = command
        self.over = threading.Event()
        self.most = 0.0
        self.start()

    def run(self) -> None:
        while not self.over.wait(0.5):
            held = 0.0
            for process in self.command.family():
                try:
                    status = Path(f"/proc/{process}/status").read_text()
                except OSError:
                    continue
                found = re.search(r"VmRSS:\s+(\d+)", status)
                held += int(found[1]) / 1024 if found else 0.0
            self.most = max(self.most, held)


if __name__ == "__main__":
    for name, app in {"flower": PLAIN, "ours": OURS}.items():
        if name in (sys.argv[1:] or ["flower", "ours"]):
            print(json.dumps(measure(name, app)), flush=True)
