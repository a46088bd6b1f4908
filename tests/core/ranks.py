"""What one of several processes does in the tests of distributed training; run by `together`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import equipoise
from equipoise import aggregation, scalarization

STEPS = 20
SAMPLES = 24


class Net(nn.Module):
    """An embedding, a convolution, a wide layer that is best kept in factors, and two heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embedding = nn.Embedding(12, 16)
        self.convolution = nn.Conv1d(16, 16, 3, padding=1)
        self.wide = nn.Linear(64, 700)
        self.left, self.right = nn.Linear(700, 3), nn.Linear(700, 1)

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.convolution(self.embedding(words).mT).relu()
        features = self.wide(hidden.flatten(1)).tanh()
        return self.left(features), self.right(features)[:, 0]


def batch(step: int, rank: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """One process's share of the samples of a step."""
    drawn = torch.Generator().manual_seed(step)
    words = torch.randint(12, (SAMPLES, 4), generator=drawn)
    classes = torch.randint(3, (SAMPLES,), generator=drawn)
    numbers = torch.randn(SAMPLES, generator=drawn)
    share = slice(rank * SAMPLES // size, (rank + 1) * SAMPLES // size)
    return words[share], classes[share], numbers[share]


def losses_of(model: nn.Module, step: int, rank: int, size: int) -> dict[str, Tensor]:
    words, classes, numbers = batch(step, rank, size)
    left, right = model(words)
    return {
        "class": cross_entropy(left, classes),
        "number": (right - numbers).square().mean(),
        "size": left.square().mean(),
    }


RULES: dict[str, Callable[[], Any]] = {
    "UPGrad": aggregation.UPGrad,
    "MGDA": aggregation.MGDA,
    "GradDrop": aggregation.GradDrop,
    "Mean": aggregation.Mean,
    "Linear": scalarization.Linear,
    "FAMO": scalarization.FAMO,
}


def train(rule_name: str, rank: int, size: int, wrapped: bool = False, **options: Any) -> dict[str, Any]:
    """Some steps of training; the parameters after them, and the first and last Gramian."""
    net = Net()
    model = DistributedDataParallel(net) if wrapped else net
    rule = RULES[rule_name]()
    optimizer = torch.optim.SGD([*net.parameters(), *rule.parameters()], lr=0.05)
    steps = []
    for number in range(STEPS):
        step = equipoise.backward(losses_of(model, number, rank, size), rule, **options)
        optimizer.step()
        optimizer.zero_grad()
        rule.update(step, step_losses(step))
        steps.append(step)
    gramian = steps[-1].gramian
    return {
        "parameters": {name: p.detach().flatten().tolist() for name, p in net.named_parameters()},
        "gramian": None if gramian is None else gramian.tolist(),
        "weights": None if steps[-1].weights is None else steps[-1].weights.tolist(),
        "traffic": steps[-1].plan.traffic,
        "forms": {layer.name: layer.form for layer in steps[-1].plan.layers},
    }


def step_losses(step: equipoise.Step) -> dict[str, Tensor]:
    """Losses after the step, made up: the same on every process."""
    return {name: 0.9 * loss for name, loss in zip(step.names, step.losses, strict=True)}


def refused(kind: str, rank: int, size: int) -> dict[str, Any]:
    """What is raised, and whether a gradient was written all the same."""
    net = Net()
    losses = losses_of(net, 0, rank, size)
    if rank == size - 1:
        if kind == "absent":
            del losses["size"]
        else:
            losses["number"] = losses["number"] * float("nan")
    rule = RULES["Linear" if kind == "nan, one pass" else "UPGrad"]()
    try:
        equipoise.backward(losses, rule)
    except ValueError as error:
        found = f"{type(error).__name__}: {error}"
    else:
        found = ""
    return {"raised": found, "written": any(p.grad is not None for p in net.parameters())}


def sharded(rank: int, size: int) -> dict[str, Any]:
    """What is raised for a model whose parameters are sharded."""
    model = Net()
    fully_shard(model, mesh=init_device_mesh("cpu", (size,)))
    try:
        equipoise.backward(losses_of(model, 0, rank, size), aggregation.UPGrad())
    except RuntimeError as error:
        return {"raised": str(error)}
    return {"raised": ""}


def main() -> None:
    """Join the others, do what is asked, write what came of it."""
    rank, size, folder, task, arguments = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:6]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    tasks = {"train": train, "refused": refused, "sharded": sharded}
    found = tasks[task](rank=rank, size=size, **json.loads(arguments))
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
