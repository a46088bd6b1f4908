"""Two processes under DistributedDataParallel, each with its own batch: how far do their models drift apart?

`python -m tests.external.replicas RANK FOLDER LIBRARY` is one of them; `drift` starts both and compares.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import equipoise
from equipoise import aggregation

ROOT = Path(__file__).parents[2]
SIZE, STEPS = 2, 3


def drift(library: str) -> Tensor:  # -> ()
    """The largest difference between parameters of the two replicas; zero where they agree bit by bit."""
    first, second = _trained(library)
    return (first - second).abs().max()


def train(rank: int, library: str) -> Tensor:
    """Some steps on this process's batches; all parameters as one vector."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))
    model = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rule = aggregation.UPGrad()
    for number in range(STEPS):
        drawn = torch.Generator().manual_seed(SIZE * number + rank)
        x, y = torch.randn(16, 5, generator=drawn), torch.randn(16, 2, generator=drawn)
        losses = list((model(x) - y).square().mean(0).unbind())
        if library == "torchjd":
            from torchjd import autojac
            from torchjd.aggregation import UPGrad

            autojac.backward(losses)
            autojac.jac_to_grad(net.parameters(), UPGrad())
        else:
            step = equipoise.backward(losses, rule)
            rule.update(step)
        optimizer.step()
        optimizer.zero_grad()
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def _trained(library: str) -> list[Tensor]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    with TemporaryDirectory() as folder:
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.external.replicas", str(rank), folder, library],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(SIZE)
        ]
        try:
            talk = [process.communicate(timeout=120)[1] for process in running]
        finally:
            for process in running:
                process.kill()
        if any(process.returncode for process in running):
            raise RuntimeError("\n".join(talk))
        return [torch.load(f"{folder}/{rank}.pt", weights_only=True) for rank in range(SIZE)]


def main() -> None:
    rank, folder, library = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=SIZE)
    torch.save(train(rank, library), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
