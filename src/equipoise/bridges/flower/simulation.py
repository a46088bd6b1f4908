"""run_on_flower: a whole run in Flower's own simulation on this machine, cleared away when it is over."""

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from equipoise.bridges.flower.clientapp import Parts, client_app_from
from equipoise.bridges.flower.peer import flwr
from equipoise.bridges.flower.processes import HOST, Command, free_port, started
from equipoise.bridges.flower.strategy import Strategy
from equipoise.core.atomic import write
from equipoise.federated.engine.checkpoint import ROUNDS
from equipoise.federated.engine.choice import Choice
from equipoise.federated.engine.coordinator import Coordinator
from equipoise.federated.engine.history import Record
from equipoise.federated.federate import Finished, finished
from equipoise.federated.local import Local
from equipoise.federated.named import algorithm
from equipoise.federated.participation import Participation
from equipoise.problems import federation

READY = 60.0
"""Seconds that Flower's server is given until it answers."""
LOG = "flower.log"
PROJECT = """[project]
name = "equipoise-run"
version = "1"
description = "one run of Equipoise"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "equipoise"

[tool.flwr.app.components]
serverapp = "equipoise_run.server:app"
clientapp = "equipoise_run.client:app"

[tool.flwr.app.config]
settings = "{}"
"""
SIDE = """from equipoise.bridges.flower.simulation import {0}_side

app = {0}_side()
"""


def run_on_flower(
    problem: str,
    options: Mapping[str, Any],
    system: str,
    *,
    rounds: int,
    out: str | Path,
    local: Local | None = None,
    participation: Participation | None = None,
    seed: int = 0,
    evaluate_every: int | None = None,
    test: bool = True,
    told: Callable[[Record], None] | None = None,
) -> Finished:
    """The same as `federate(federation(problem, **options), algorithm(system), ...)`, by `flwr run`.

    Each client is a node of Flower's simulation, as many at a time as there are processors; weights equal
    those of `federate` with batching="loop". A SuperLink of its own, on a free port of this machine, is
    started, and ended with all that belongs to it; Flower's files lie in a temporary folder, and what it
    says in `flower.log` in `out`. `out` holds every round, and a run that was cut off goes on from it.

    Raises ImportError naming the extra `federated`, RuntimeError with Flower's own words where the run fails,
    and what `federate` raises for settings that do not fit.
    """
    if Path(problem).suffix == ".py":
        problem = str(Path(problem).expanduser().resolve())
    settings = {
        "problem": problem,
        "options": {key: str(value) for key, value in options.items()},
        "system": system,
        "local": None if local is None else asdict(local),
        "participation": asdict(participation or Participation()),
        "seed": seed,
        "rounds": rounds,
        "evaluate_every": evaluate_every,
        "out": str(Path(out).resolve()),
    }
    flwr()
    strategy = _strategy(settings)
    folder = strategy.folder()
    assert folder is not None
    if folder.load()[0] < rounds:
        with tempfile.TemporaryDirectory(prefix="equipoise-flower-") as place:
            _run(Path(place), settings, len(strategy.parts.federation.clients), told)
    one = strategy.parts
    coordinator = Coordinator(
        one.federation, one.algorithm, seed=seed, participation=strategy.participation, folder=folder
    )
    if coordinator.number < rounds:
        raise RuntimeError(f"Flower's run ended after round {coordinator.number} of {rounds}: {_words(out)}")
    one.federation.prepare()
    return finished(coordinator, Choice(1, "each client is a node of Flower's simulation"), test=test)


def client_side() -> Any:
    """The ClientApp of a run that was started by `run_on_flower`."""
    return client_app_from(lambda config: _parts(json.loads(str(config["settings"]))))


def server_side() -> Any:
    """The ServerApp of a run that was started by `run_on_flower`."""
    app = flwr("flwr.serverapp").ServerApp()

    @app.main()
    def main(grid: Any, context: Any) -> None:
        _strategy(json.loads(str(context.run_config["settings"]))).start(grid)

    return app


def _parts(settings: Mapping[str, Any]) -> Parts:
    local = None if settings["local"] is None else Local(**settings["local"])
    clients = federation(settings["problem"], **settings["options"])
    return Parts(clients, algorithm(settings["system"]), local, settings["seed"])


def _strategy(settings: Mapping[str, Any]) -> Strategy:
    parts, told = _parts(settings), dict(settings["participation"])
    if isinstance(told["effort"], list):
        told["effort"] = tuple(told["effort"])
    return Strategy(
        parts.federation,
        parts.algorithm,
        parts.local,
        seed=parts.seed,
        rounds=settings["rounds"],
        participation=Participation(**told),
        evaluate_every=settings["evaluate_every"],
        checkpoint=settings["out"],
        judged_by="server",
        test=False,
    )


def _run(
    place: Path, settings: Mapping[str, Any], clients: int, told: Callable[[Record], None] | None
) -> None:
    """Start Flower, wait for the run's end and tell of each round; nothing of Flower is left behind."""
    app, package = place / "app", place / "app" / "equipoise_run"
    package.mkdir(parents=True)
    write(app / "pyproject.toml", PROJECT)
    write(package / "__init__.py", "")
    for side in ("client", "server"):
        write(package / f"{side}.py", SIDE.format(side))
    given = json.dumps(json.dumps(settings))  # JSON in a string of TOML
    write(place / "run.toml", f"settings = {given}\n")
    port, out = free_port(), Path(str(settings["out"]))
    home = place / "home"
    home.mkdir()
    write(
        home / "config.toml",
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{HOST}:{port}"\ninsecure = true\n',
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    sizes = f"num-supernodes={clients} client-resources-num-cpus=1 init-args-num-cpus={cores}"
    link = ("--simulation", "--insecure", "--host", HOST, "--port", str(port))
    alone = "--disable-runtime-dependency-installation"
    run = ("run", str(app), "here", "--stream", "--run-config", str(place / "run.toml"))
    with (out / LOG).open("wb") as log, started(log, home, "flower-superlink", *link, alone) as server:
        if not server.answers(port, READY):
            raise RuntimeError(f"Flower's SuperLink does not answer: {_words(out)}")
        with started(log, home, "flwr", *run, "--federation-config", sizes) as client:
            _follow(client, server, out, told)


def _follow(
    client: Command,
    server: Command,
    out: Path,
    told: Callable[[Record], None] | None,
) -> None:
    """Tell of the rounds as they are kept, until the run is over."""
    file, seen = out / ROUNDS, 0
    if file.is_file():
        seen = file.stat().st_size
    over, looked = False, 0.0
    while not over:
        over = not (client.alive() and server.alive())
        if time.monotonic() - looked > 1:
            server.family()  # so that it is known even if the server ends first
            looked = time.monotonic()
        if told is not None and file.is_file() and file.stat().st_size > seen:
            with file.open("rb") as held:
                held.seek(seen)
                lines = held.read().rpartition(b"\n")[0]
            seen += len(lines) + (1 if lines else 0)
            for line in lines.splitlines():
                told(Record.from_json(json.loads(line)))
        if not over:
            time.sleep(0.05)


def _words(out: str | Path) -> str:
    """What Flower said last, an error if there is one, and where the rest is."""
    file = Path(out) / LOG
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    told = [words for line in lines if (words := re.sub(r"\x1b\[\d+m|[─│╭╮╰╯]", "", line).strip())]
    errors = [place for place, words in enumerate(told) if re.search("error|exception", words, re.IGNORECASE)]
    words = " ".join(told[errors[-1] :][:4] if errors else told[-1:]) or "nothing"
    return f"{words} (all of it: {file})"
