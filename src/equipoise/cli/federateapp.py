"""`equipoise federate init DIR`: a Flower app that runs as it is, and is changed from there."""

import re
from pathlib import Path

from equipoise.core.atomic import write

PROJECT = """[project]
name = "{app}"
version = "0.1.0"
description = "One model that many clients train together"
license = "Apache-2.0"
# Empty on purpose: every machine has Equipoise with its extra federated installed (see README.md).
dependencies = []

[tool.flwr.app]
publisher = "nobody"

[tool.flwr.app.components]
serverapp = "{name}.server_app:app"
clientapp = "{name}.client_app:app"

# Each of these can be set for one run: flwr run . --run-config 'rounds=5 algorithm="SCAFFOLD"'
[tool.flwr.app.config]
federation = "digits-clients" # one of `equipoise list federations`, or the path of a file of yours
options = "client_count=2"    # of the federation, as "client_count=4 split=classes"
algorithm = "FedAvg"          # one of `equipoise list federated`, such as "FedProx:mu=0.1"
rounds = 3
seed = 0
epochs = 1
batch-size = 32
learning-rate = 0.1
quorum = 0.5                  # share of the clients asked that a round needs
timeout = 600.0               # seconds of a round
checkpoint = "{name}-run"     # on the server; a run that was cut off goes on from it. "" keeps nothing
judged-by = "nodes"           # or "server", where that has the examples, or "" for nobody
"""

PARTS = '''"""What the server and every client have in common. This is the file to change."""

from collections.abc import Mapping
from typing import Any

from equipoise.bridges.flower import Parts
from equipoise.federated import Local
from equipoise.federated.named import algorithm
from equipoise.problems import federation


def parts(config: Mapping[str, Any]) -> Parts:
    """From the configuration of the run: pyproject.toml, and what `--run-config` changes of it.

    A federation of your own is a subclass of `equipoise.Federation`; on a client's machine its
    `examples` has to find the examples of that client alone.
    """
    options = dict(word.split("=", 1) for word in config["options"].split())
    local = Local(
        epochs=config["epochs"], batch_size=config["batch-size"], learning_rate=config["learning-rate"]
    )
    clients = federation(config["federation"], **options)
    return Parts(clients, algorithm(config["algorithm"]), local, config["seed"])
'''

CLIENT = '''"""What runs on every client's machine."""

from equipoise.bridges.flower import client_app_from

from {name}.parts import parts

app = client_app_from(parts)
'''

SERVER = '''"""What runs on the server."""

from flwr.serverapp import ServerApp

from equipoise.bridges.flower import Strategy

from {name}.parts import parts

app = ServerApp()


@app.main()
def main(grid, context):
    config = context.run_config
    shared = parts(config)
    strategy = Strategy(
        shared.federation,
        shared.algorithm,
        shared.local,
        rounds=config["rounds"],
        seed=shared.seed,
        quorum=config["quorum"],
        timeout=config["timeout"],
        checkpoint=config["checkpoint"] or None,
        judged_by=config["judged-by"] or None,
    )
    finished = strategy.start(grid)
    for output, clients in finished.test.items():
        for client, judged in clients.items():
            print(f"{{output}}, {{client}}: {{shared.federation.metric.name}} {{judged['score']:.4f}}")
'''

README = """# {name}

A Flower app that trains one model with many clients, by the systems of Equipoise. `{name}/parts.py` says
what is trained, `pyproject.toml` with which settings.

Every machine needs Equipoise with Flower, and silence where Flower would report its use:

    pip install 'equipoise[federated]'
    export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1

## On one machine

A simulated node for each client: two, as many as Flower simulates where it is told nothing.

    flwr run . local --stream

Ten clients need ten nodes:

    flwr run . local --stream --run-config 'options="client_count=10"' \\
      --federation-config 'num-supernodes=10 client-resources-num-cpus=1'

It leaves a process behind that serves the next run (`flower-superlink`), and files in `~/.flwr`, or in
`$FLWR_HOME` where that is set. The same without either, and with a report:
`equipoise federate digits-clients --engine flower`.

## On many machines

The server, with a certificate (`server.crt`, `server.key`) that the authority `ca.crt` vouches for:

    flower-superlink --ssl-ca-certfile ca.crt --ssl-certfile server.crt --ssl-keyfile server.key \\
      --enable-supernode-auth --database link.db --disable-runtime-dependency-installation \\
      --host 0.0.0.0 --port 8000

Whoever runs the app, in `~/.flwr/config.toml`:

    [superlink]
    default = "ours"

    [superlink.ours]
    address = "server.example.org:8000"
    root-certificates = "/path/to/ca.crt"

Each client makes a key, and sends `key.pub`; the server's side registers it under the client's name in
the federation, so that no other node can pass for it. Nodes that are not registered are refused.

    ssh-keygen -t ecdsa -b 384 -N '' -f key
    flwr supernode register key.pub ours --name client-00

    flower-supernode --root-certificates ca.crt --superlink server.example.org:8000 \\
      --auth-supernode-private-key key --node-config 'client="client-00"' \\
      --ssl-certfile node.crt --ssl-keyfile node.key --ssl-ca-certfile ca.crt

(The node's own certificate is for the processes on its machine and names 127.0.0.1.) Then:

    flwr run . ours --stream

A round ends when all have answered, or when `timeout` is over; it counts where `quorum` has been reached.
Clients that were late or refused are named in `rounds.jsonl` of the checkpoint, a folder on the server,
relative to where `flower-superlink` was started. If the server dies, start it and `flwr run` again: the
run goes on after the last round that was kept. Another run wants another folder. Systems whose clients keep
something from round to round (SCAFFOLD, FedDyn) go on exactly only where that outlives the run: add
`kept-folder="/path"` to `--node-config`.
"""


def write_app(folder: Path) -> None:
    """Write the app into a folder, made where it is absent.

    The app's package is named after the folder. Raises FileExistsError naming the first file that exists
    already, before anything is written, and ValueError for a folder whose name makes no package.
    """
    folder = Path(folder)
    name = re.sub(r"\W+", "_", folder.resolve().name.lower(), flags=re.ASCII).strip("_")
    if not re.fullmatch(r"[a-z]\w{0,30}", name, flags=re.ASCII):
        raise ValueError(f"{folder}: a Flower app bears its folder's name; let that begin with a letter")
    texts = {
        "pyproject.toml": PROJECT.format(name=name, app=name.replace("_", "-")),
        "README.md": README.format(name=name),
        ".gitignore": f"__pycache__/\n{name}-run/\n",  # Flower leaves out of the app what Git does
        f"{name}/__init__.py": f'"""The Flower app {name}."""\n',
        f"{name}/parts.py": PARTS,
        f"{name}/client_app.py": CLIENT.format(name=name),
        f"{name}/server_app.py": SERVER.format(name=name),
    }
    for file in texts:
        if (folder / file).exists() or (folder / file).is_symlink():
            raise FileExistsError(
                f"{folder / file} exists already and was left as it is; name another folder"
            )
    (folder / name).mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        write(folder / file, text)
