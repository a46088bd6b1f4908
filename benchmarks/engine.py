"""What a training step under a Gramian rule costs beside a plain step, and beside TorchJD's engines.

Contenders take turns on one thread, in an order that is turned round each time, so what slows the machine
slows all; ours and the plain step in turns of their own, since what follows a contender that takes much
memory is slower. A figure is the median of the ratios within a turn, with quartiles. A step is the forward
pass, the backward passes, UPGrad and SGD. Memory is the growth of a fresh process's largest resident size.
TorchJD stands beside where it is installed: with its defaults, and with its best setting (chunks of 1).
"""

import argparse
import copy
import subprocess
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch
from benchmarks.models import MODELS, Task, mlp
from benchmarks.record import about, record
from benchmarks.sidebyside import Step, in_turns, ratio, shown
from torch import Tensor

import equipoise
from equipoise.aggregation import UPGrad
from equipoise.core.held import Factored

ROOT = Path(__file__).parent.parent
PEERS = find_spec("torchjd") is not None
CASES = {"MLP": (2, 8, 32), "CNN": (2, 8, 32), "GPT": (2, 8, 32), "ResNet": (2, 8)}
TURNS = {"MLP": 15, "CNN": 15, "GPT": 5, "ResNet": 3}
GOALS = {  # model, m -> (at most x plain, at least x TorchJD's default, at least x its best)
    ("MLP", 2): (1.5, None, None),
    ("MLP", 8): (2.7, 6, 5),
    ("MLP", 32): (None, 8, 6),
    ("CNN", 2): (1.75, None, None),
    ("CNN", 8): (None, 2, 1.1),
    ("CNN", 32): (None, 2, 1.1),
    ("GPT", 2): (1.75, None, None),
    ("GPT", 8): (None, 2, 1.1),
    ("GPT", 32): (None, 2, 1.1),
    ("ResNet", 2): (1.75, None, None),
    ("ResNet", 8): (None, 2, 1.1),
}


def task_of(model: str, m: int) -> Task:
    """The model and its batch, the same for every contender."""
    torch.manual_seed(0)
    return MODELS[model](m)


def plain(model: str, m: int) -> Step:
    """The floor: one backward pass of the sum."""
    task = task_of(model, m)
    optimizer = torch.optim.SGD(task.parameters(), lr=1e-4)

    def step() -> None:
        torch.stack([*task.losses().values()]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def ours(model: str, m: int) -> Step:
    """A step of this package."""
    task, rule = task_of(model, m), UPGrad()
    optimizer = torch.optim.SGD(task.parameters(), lr=1e-4)

    def step() -> object:
        done = equipoise.backward(task.losses(), rule)
        optimizer.step()
        optimizer.zero_grad()
        return done

    return step


def peer(model: str, m: int, chunk: int | None = None) -> Step:
    """A step of TorchJD's Jacobian engine, `chunk` rows at a time (None: all)."""
    from torchjd import aggregation, autojac

    task, aggregator = task_of(model, m), aggregation.UPGrad()
    optimizer = torch.optim.SGD(task.parameters(), lr=1e-4)
    shared = task.shared()

    def step() -> None:
        if len(shared) == len(list(task.parameters())):
            autojac.backward(list(task.losses().values()), inputs=shared, parallel_chunk_size=chunk)
        else:
            features = task.features()
            losses = list(task.heads(features).values())
            autojac.mtl_backward(losses, features=features, parallel_chunk_size=chunk)
        autojac.jac_to_grad(shared, aggregator)
        optimizer.step()
        optimizer.zero_grad()

    return step


def contenders(model: str, m: int) -> dict[str, Step]:
    """Name -> step."""
    found = {"plain": plain(model, m), "equipoise": ours(model, m)}
    if PEERS:
        found |= {"default": peer(model, m, None), "best": peer(model, m, 1)}
    return found


def steps_table(models: Sequence[str], turns: int | None) -> dict:
    """One row for each model and number of objectives."""
    rows = []
    for model in models:
        for m in CASES[model]:
            steps, count = contenders(model, m), turns or TURNS[model]
            taken = in_turns({name: steps[name] for name in ("plain", "equipoise")}, count)
            peers = in_turns({name: step for name, step in steps.items() if name != "plain"}, count)
            goal = GOALS[model, m]
            row: list[object] = [
                f"{model}, m = {m}",
                f"{1e3 * median(taken['plain']):.1f}",
            ]
            row.append(shown(ratio(taken["equipoise"], taken["plain"]), goal[0], at_most=True))
            for name, wanted in (("default", goal[1]), ("best", goal[2])):
                row.append(
                    shown(ratio(peers[name], peers["equipoise"]), wanted) if PEERS else "not installed"
                )
            rows.append(row)
            print(*row, sep=" | ", file=sys.stderr)
    return {
        "title": "A training step with UPGrad",
        "columns": ["model", "plain step, ms", "of a plain step", "TorchJD / ours", "TorchJD's best / ours"],
        "rows": rows,
        "note": "Median (quartiles); goal in square brackets. With explicit gradients a step takes 1 + 2 m "
        "units of a forward pass where a plain one takes 3: 1.67, 5.67 and 21.67 of it. Convolutions with "
        "many places and layers of a transformer are explicit here too, since that is their cheaper exact "
        "form.",
    }


def sample_losses(task: Task) -> Tensor:
    """A squared error for each sample."""
    return (task.outputs[0](task.features())[:, 0] - task.targets[:, 0]).square()


def samples_step(name: str, m: int) -> Step:
    """The Gramian of the losses of m samples of the MLP."""
    torch.manual_seed(0)
    task = mlp(1, batch=m)
    if name == "equipoise":
        return lambda: equipoise.gramian(sample_losses(task), task.trunk, samples=True)
    if name == "forward":
        return lambda: sample_losses(task)
    from torchjd.autogram import Engine

    engine = Engine(task.trunk, batch_dim=0)
    return lambda: engine.compute_gramian(sample_losses(task))


def samples_table(turns: int) -> dict:
    """Time and memory of a per-sample Gramian."""
    names = ["equipoise", "autogram"] if PEERS else ["equipoise"]
    taken = in_turns({name: samples_step(name, 32) for name in names}, turns)
    memory = {name: grown("samples", name, 32) for name in ["forward", *names]}
    extra = {name: max(memory[name] - memory["forward"], 0.0) for name in names}
    rows: list[list[object]] = [
        [name, f"{1e3 * median(taken[name]):.1f}", f"{extra[name]:.0f}"] for name in names
    ]
    if PEERS:
        times = shown(ratio(taken["autogram"], taken["equipoise"]), 30)
        share = extra["equipoise"] / max(extra["autogram"], 1.0)
        rows.append(["TorchJD's autogram / ours", times, f"ours is {share:.3f} of it [<= 0.1]"])
    return {
        "title": "Gramian of the losses of 32 samples, MLP",
        "columns": ["engine", "ms", "MB beside a forward pass"],
        "rows": rows,
        "note": "Forward pass included. Ours takes two backward passes: one checks that samples stay apart.",
    }


def grown(kind: str, name: str, m: int) -> float:
    """Megabytes by which a fresh process grows in three steps."""
    command = [sys.executable, "-m", "benchmarks.engine", "--grow", kind, name, str(m)]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(found.stdout.split()[-1])


def grow(kind: str, name: str, m: int) -> float:
    """The same in this process, after all that is imported late was imported by a small model."""
    make = {
        "plain": plain,
        "equipoise": ours,
        "default": lambda k, n: peer(k, n, None),
        "best": lambda k, n: peer(k, n, 1),
    }
    if kind == "samples":
        small, step = samples_step(name, 2), samples_step(name, m)
    else:
        small, step = make[name]("CNN", 2), make[name]("MLP", m)
    small()
    before = largest()
    for _ in range(3):
        step()
    return largest() - before


def largest() -> float:
    """The largest resident size of this process, in megabytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1000
    raise RuntimeError("this system does not say how large a process has been (VmHWM)")


def memory_table(m: int = 32) -> dict:
    """What a step of the MLP takes beside a plain step."""
    names = ["plain", "equipoise", *(["default", "best"] if PEERS else [])]
    memory = {name: grown("step", name, m) for name in names}
    rows: list[list[object]] = [
        [name, f"{memory[name]:.0f}", f"{memory[name] - memory['plain']:.0f}"] for name in names
    ]
    if PEERS:
        leanest = min(memory["default"], memory["best"]) - memory["plain"]
        share = max(memory["equipoise"] - memory["plain"], 0.0) / leanest
        rows.append(["ours of TorchJD's leanest", "", f"{share:.3f} [<= 0.25]"])
    return {
        "title": f"Memory of a training step with UPGrad, MLP, m = {m}",
        "columns": ["engine", "MB grown", "MB beside a plain step"],
        "rows": rows,
        "note": "Growth of the largest resident size of a fresh process over three steps.",
    }


def peak_table() -> dict:
    """How near the Gramian of the MLP comes to the machine's matrix products."""
    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    peak = 2 * 2048**3 / min(in_turns({"product": lambda: left @ right}, 7)["product"])
    rows = []
    for m in (8, 32):
        for a, o in ((1024, 1600), (1600, 1600), (1600, 512)):
            held, work = layer(m, 32, a, o)
            taken = min(in_turns({"gramian": lambda held=held, m=m: held.gramian(m)}, 15)["gramian"])
            rows.append([f"m = {m}, {a} to {o}", f"{1e3 * taken:.2f}", f"{work / taken / peak:.0%}"])
    return {
        "title": "The Gramian of the MLP's layers from inputs and output gradients",
        "columns": ["layer", "ms", "of the peak"],
        "rows": rows,
        "note": f"The peak is that of a product of two 2,048 x 2,048 matrices, {peak / 1e9:.0f} billion "
        "operations a second; the Gramian's operations are those of its three products.",
    }


def layer(m: int, n: int, a: int, o: int) -> tuple[Factored, float]:
    """What is held of a linear layer, and the operations of its Gramian."""
    from equipoise.core.ghost.linear import LinearUse

    module = torch.nn.Linear(a, o)
    node = module(torch.randn(n, a)).grad_fn
    use = LinearUse.read(node, 2, True)
    assert use is not None
    held = Factored([use], [[torch.randn(n, o) for _ in range(m)]], module.weight)
    return held, 2.0 * (n * n * a + m * n * n * o + m * m * n * o)


def sketch_table(models: Sequence[str], m: int = 4) -> dict:
    """The error of sketched Gramians against exact ones."""
    sizes = (8, 16, 32, 64, 128, 256)
    rows = []
    for model in models:
        task, rule = task_of(model, m), UPGrad()
        exact = equipoise.backward(copy.deepcopy(task).losses(), rule).gramian
        assert exact is not None
        lengths = torch.outer(exact.diagonal(), exact.diagonal()).sqrt()
        errors = []
        for size in sizes:
            found = equipoise.backward(task.losses(), rule, gramian="sketch", sketch_size=size).gramian
            assert found is not None
            errors.append(f"{float(((found - exact) / lengths).square().mean().sqrt()):.4f}")
        rows.append([model, *errors])
    return {
        "title": f"Error of sketched Gramians, m = {m}",
        "columns": ["model", *(f"size {size}" for size in sizes)],
        "rows": rows,
        "note": "Root mean square over entries, each relative to the two lengths. Layers with no more "
        "numbers on one side than the sketch are taken exactly.",
    }


def main() -> None:
    """Measure, record, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument(
        "--turns", type=int, help="turns for each figure; by default 15, fewer for large models"
    )
    parser.add_argument("--grow", nargs=3, metavar=("KIND", "NAME", "M"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="There is a performance drop")
    if options.grow:
        print(grow(options.grow[0], options.grow[1], int(options.grow[2])))
        return
    tables = [
        steps_table(options.models, options.turns),
        samples_table(options.turns or 15),
        memory_table(),
        peak_table(),
        sketch_table(options.models),
    ]
    print(record("engine", {"about": about(), "tables": tables}))


if __name__ == "__main__":
    main()
