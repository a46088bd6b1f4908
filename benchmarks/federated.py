"""What a federated round costs: beside a plain loop over clients, at the server, and beside Flower.

A round of the simulator and one of a loop written by hand with torch.optim.SGD take turns in one process on
one thread; the figure is the median of the ratios of their CPU seconds. Flower, where the interpreter of
an environment that has it is named, runs the same three rounds of ten clients in processes of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch
from benchmarks.record import ROOT, about, record
from benchmarks.sidebyside import in_turns, ratio, shown
from torch import Tensor, nn

from equipoise.core.bundle import Bundle
from equipoise.core.federation import Federation
from equipoise.core.rule import GramianRule
from equipoise.federated import ByRule, FedAvg, Local
from equipoise.federated.engine.coordinator import Coordinator
from equipoise.federated.engine.simulator import Simulator
from equipoise.federated.serveralgorithm import Round
from equipoise.problems import federation
from equipoise.study.roster import build as build_rule
from equipoise.study.roster import method, rule_cards

LOCAL = Local(batch_size=32, learning_rate=0.1)
NETWORKS = {
    "digits softmax": ("digits-clients", "softmax", 1000),
    "digits MLP 64-64-10": ("digits-clients", "mlp", 1000),
    "MNIST MLP 784-200-10": ("mnist-clients", "mlp", 2000),
    "MNIST LeNet": ("mnist-clients", "lenet", 2000),
}
CLIENTS = (10, 100, 1000)
SMALL = 10_000
M, SHAPES = 100, {"first": (784, 1000), "second": (1000, 200), "last": (16000,)}


def build(name: str, clients: int) -> Federation:
    """Clients with even shares of 1,000 digits, or 2,000 of MNIST (20,000 for a thousand clients)."""
    problem, network, train = NETWORKS[name]
    if problem == "mnist-clients":
        train = max(train, 20 * clients)
    return federation(
        problem, client_count=clients, network=network, split="iid", train=train, judged=1, least=1
    )


def by_hand(held: Federation) -> Callable[[], None]:
    """A round as one would write it: federated averaging with one model and torch.optim.SGD."""
    torch.manual_seed(0)
    model, criterion = held.model(), nn.CrossEntropyLoss()
    data = [held.examples(client, "train") for client in held.clients]
    total = sum(len(images) for images, _ in data)
    center = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def one() -> None:
        mean = {name: torch.zeros_like(tensor) for name, tensor in center.items()}
        for images, labels in data:
            model.load_state_dict(center)
            optimizer = torch.optim.SGD(model.parameters(), lr=LOCAL.learning_rate)
            for _ in range(LOCAL.epochs):
                for rows in torch.randperm(len(images)).split(LOCAL.batch_size or len(images)):
                    optimizer.zero_grad()
                    criterion(model(images[rows]), labels[rows]).backward()
                    optimizer.step()
            for name, tensor in model.state_dict().items():
                mean[name].add_(tensor, alpha=len(images) / total)
        center.update(mean)

    return one


def simulated(held: Federation) -> Simulator:
    """The simulator as `federate` sets it up, following no split."""
    return Simulator(Coordinator(held, FedAvg(), local=LOCAL, evaluate_every=10**9))


def simulator_table(seconds: float) -> dict[str, Any]:
    """A row for each network and number of clients; about `seconds` of rounds by hand for each."""
    rows = []
    for name in NETWORKS:
        for clients in CLIENTS:
            held = build(name, clients)
            held.prepare()
            size = sum(p.numel() for p in held.model().parameters())
            hand, ours = by_hand(held), simulated(held)
            hand()
            began = time.process_time()
            ours.round()
            first = time.process_time() - began
            began = time.process_time()
            hand()
            turns = max(3, min(40, round(seconds / (time.process_time() - began))))
            taken = in_turns({"hand": hand, "ours": ours.round}, turns, time.process_time)
            goal = (3.0 if size < SMALL else 1.0) if clients == 100 else None
            assert ours.choice is not None
            together = ours.choice.together
            rows.append(
                [
                    f"{name}, {clients} clients",
                    f"{size:,}",
                    f"{1e3 * median(taken['hand']):.1f}",
                    f"{1 / median(taken['ours']):.1f}",
                    shown(ratio(taken["hand"], taken["ours"]), goal),
                    f"{first / median(taken['ours']):.1f}",
                    f"{min(together, clients)} together" if together > 1 else "one by one",
                ]
            )
            print(*rows[-1], sep=" | ", file=sys.stderr)
    return {
        "title": "A round of the simulator beside a loop written by hand",
        "columns": [
            "",
            "parameters",
            "by hand, ms a round",
            "here, rounds a second",
            "by hand / here",
            "first round, in later rounds",
            "clients",
        ],
        "rows": rows,
        "note": "Median (quartiles) of ratios of CPU seconds of neighbouring rounds. Federated averaging, "
        "one epoch of batches of 32 of a client's share of 1,000 digits or of 2,000 of MNIST (20,000 for a "
        'thousand clients). batching="auto": the first round has the trial in it that chooses how clients '
        "are trained, and what torch sets up at first use. Goals in square brackets.",
    }


def memory_table() -> dict[str, Any]:
    """What each further client adds to the peak of a run."""
    rows = []
    for name in NETWORKS:
        peak = {
            clients: child(sys.executable, "benchmarks.onefederation", "memory", name, clients)["megabytes"]
            for clients in (100, 1000)
        }
        each = (peak[1000] - peak[100]) / 900
        size = 4 * sum(p.numel() for p in build(name, 10).model().parameters()) / 2**20
        rows.append(
            [name, f"{peak[100]:.0f}", f"{peak[1000]:.0f}", f"{1024 * each:.0f}", f"{each / size:.1f}"]
        )
        print(*rows[-1], sep=" | ", file=sys.stderr)
    return {
        "title": "Memory of the simulator",
        "columns": ["", "MB at 100 clients", "MB at 1,000 clients", "kB a client more", "in models"],
        "rows": rows,
        "note": "Peak resident memory of two rounds above that before, examples being there "
        "already; a process each. A round's updates are one model for each client, in memory at once.",
    }


def aggregation_table(turns: int) -> dict[str, Any]:
    """Every Gramian rule at the server, beside one Gramian and one combination of the updates."""
    draws = torch.Generator().manual_seed(0)
    common = {name: torch.randn(shape, generator=draws) for name, shape in SHAPES.items()}
    blocks = {
        name: torch.stack([0.3 * tensor + torch.randn(tensor.shape, generator=draws) for _ in range(M)]) / 100
        for name, tensor in common.items()
    }
    names = tuple(f"client-{i:02d}" for i in range(M))
    bundle, ones = Bundle(names, blocks), torch.ones(M, dtype=torch.float64)
    losses = 0.5 + torch.rand(M, generator=draws, dtype=torch.float64)
    side = {"samples": ones, "steps": ones, "loss": losses, "loss_during": losses}
    parameters = {name: torch.zeros_like(tensor) for name, tensor in common.items()}

    rows = []
    for name in sorted(card.name for card in rule_cards().values()):
        if not issubclass(method(name), GramianRule):
            continue
        try:
            rule = build_rule(name, names, seed=0)
            server = ByRule(rule).server
            state = server.start(parameters, names)

            def ours(server: Any = server, state: Any = state) -> None:
                with torch.no_grad():
                    server.aggregate(state, Round(1, names, parameters, fresh(bundle), {}, side, ones))

            taken = in_turns(
                {"bare": lambda: bare_of(fresh(bundle), ones), "rule": ours}, turns, time.process_time
            )
        except (ValueError, TypeError) as error:
            rows.append([name, "", str(error)[:100]])
            continue
        more = median(taken["rule"]) - median(taken["bare"])
        rows.append(
            [name, shown(ratio(taken["rule"], taken["bare"]), 1.3, at_most=True), f"{1e3 * more:.0f}"]
        )
        print(*rows[-1], sep=" | ", file=sys.stderr)
    return {
        "title": f"Combining {M} updates of a million parameters by each Gramian rule",
        "columns": ["rule", "time over one Gramian and one combination", "ms more"],
        "rows": rows,
        "note": f"Median (quartiles) of {turns} turns, CPU seconds; `ByRule`, {len(SHAPES)} blocks, float32. "
        "Rules below 1 need no Gramian.",
    }


def fresh(bundle: Bundle) -> Bundle:
    """The same updates, of which nothing has been computed yet."""
    return Bundle(bundle.names, dict(bundle.blocks))


def bare_of(bundle: Bundle, ones: Tensor) -> dict[str, Tensor]:
    """What no Gramian rule can do without."""
    bundle.gramian()
    return bundle.combine(ones / len(ones))


def flower_table(peer: str | None, turns: int) -> dict[str, Any]:
    """Three rounds of ten clients, cold and warm; a row that says so where Flower is not there."""
    columns = ["", "wall s, cold", "wall s, warm"]
    title = "Ten clients and three rounds of digits, beside `flwr run`"
    if peer is None:
        rows = [["not measured: no interpreter with flwr was named (--peer, EQUIPOISE_FLWR)", "", ""]]
        return {"title": title, "columns": columns, "rows": rows, "note": "pfl-research was not measured."}
    found: dict[str, list[tuple[float, float]]] = {"here": [], "flower": []}
    for _ in range(turns):
        began = time.perf_counter()
        warm_here = child(sys.executable, "benchmarks.onefederation", "here")["warm"]
        found["here"].append((time.perf_counter() - began - 4 * warm_here, warm_here))
        facts = child(peer, "benchmarks.flowerside", "flower")
        found["flower"].append((facts["cold"], facts["warm"]))
        print({who: runs[-1] for who, runs in found.items()}, file=sys.stderr)
    cold, warm = ({who: median(run[i] for run in runs) for who, runs in found.items()} for i in (0, 1))
    rows = [[who, f"{cold[who]:.2f}", f"{warm[who]:.3f}"] for who in found]
    rows.append(
        [
            "ratio",
            f"{cold['flower'] / cold['here']:.1f} [>= 8]",
            f"{warm['flower'] / warm['here']:.0f} [>= 100]",
        ]
    )
    return {
        "title": title,
        "columns": columns,
        "rows": rows,
        "note": f"Medians of {turns} turns, wall seconds. Flower's own FedAvg and simulation. Cold: here a "
        "process from start to end, there from the start of Flower's server to the end of `flwr run`. Warm: "
        "here once more in the process, there a second `flwr run` on the same server, which starts its "
        "workers anew. pfl-research was not measured.",
    }


def child(interpreter: str, module: str, *arguments: object) -> Mapping[str, float]:
    """What a module says in a process of its own; RuntimeError with its last words where it fails."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    order = [interpreter, "-m", module, *map(str, arguments)]
    quiet = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(order, capture_output=True, text=True, check=False, env={**os.environ, **quiet})
    if done.returncode:
        raise RuntimeError(f"{' '.join(order[1:])} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, record, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", default=os.environ.get("EQUIPOISE_FLWR"), help="a Python that has flwr")
    parser.add_argument("--seconds", type=float, default=2.0, help="of rounds by hand for each figure")
    parser.add_argument("--turns", type=int, default=3, help="of rules at the server, and of Flower")
    parser.add_argument("--print", action="store_true", dest="only", help="do not record")
    parser.add_argument("--tables", default="simulator,memory,aggregation,flower", help="which to measure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "simulator": lambda: simulator_table(options.seconds),
        "memory": memory_table,
        "aggregation": lambda: aggregation_table(options.turns),
        "flower": lambda: flower_table(options.peer, options.turns),
    }
    tables = [makers[name]() for name in options.tables.split(",")]
    facts = about()
    if options.peer:
        order = "from importlib.metadata import version; print(version('flwr'))"
        facts["flwr"] = subprocess.check_output([options.peer, "-c", order], text=True).strip()
    if options.only:
        print(json.dumps(tables, indent=1))
    else:
        print(record("federated", {"about": facts, "tables": tables}))


if __name__ == "__main__":
    main()
