"""Two processes of the Trainer stay equal to the last bit, and train as the mean of their directions does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.bridges.languages import LANGUAGES, gpt2, text, token_losses

import equipoise
from equipoise.aggregation import UPGrad

ROOT = Path(__file__).parents[2]


@pytest.mark.usefixtures("data_folder")
def test_two_processes_train_by_the_mean_of_their_directions(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.bridges.trainer_in_two", str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, **common, "RANK": str(k), "LOCAL_RANK": str(k), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(2)
    ]
    told = [worker.communicate(timeout=150)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], told[0][-2000:] + told[1][-2000:]
    for name in ("UPGrad", "FAMO"):
        first, second = (torch.load(tmp_path / f"{name}.{k}.pt", weights_only=True) for k in range(2))
        for key, tensor in first.items():
            assert torch.equal(tensor, second[key]), f"{name}: {key}"
        lines = (tmp_path / f"{name}.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines if "equipoise/loss/de" in line] == list(range(5))
    wanted = alone()
    for key, tensor in torch.load(tmp_path / "UPGrad.0.pt", weights_only=True).items():
        if key in wanted:
            torch.testing.assert_close(tensor, wanted[key], rtol=1e-3, atol=1e-4, msg=key)


def alone():
    """One process that takes the mean of the directions of both batches of a step."""
    model = gpt2()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    pieces = text()[:80]
    for start in range(0, 80, 16):
        accumulator = equipoise.Accumulator(UPGrad(), parameters=model)
        for half in range(2):
            part = pieces[start + 8 * half : start + 8 * half + 8]
            batch = {name: torch.stack([piece[name] for piece in part]) for name in part[0]}
            each = token_losses(model(input_ids=batch["input_ids"]).logits, batch["labels"])
            accumulator.add(equipoise.by_group(each, batch["language"], LANGUAGES))
        accumulator.backward()
        optimizer.step()
        optimizer.zero_grad()
    return dict(model.named_parameters())
