"""Two processes of Lightning train as one does on both of their batches, and stay equal to the last bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from tests.bridges.test_lightning import by_hand

from equipoise.aggregation import UPGrad
from equipoise.scalarization import FAMO

ROOT = Path(__file__).parents[2]


RULES = {"UPGrad": UPGrad, "FAMO": FAMO}


def test_two_processes_are_one_with_both_batches(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.bridges.lightning_in_two", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name, rule in RULES.items():
        first, second = (torch.load(tmp_path / name / f"rank{k}.pt", weights_only=True) for k in range(2))
        alone = by_hand(rule()).state_dict()
        for key, tensor in first.items():
            assert torch.equal(tensor, second[key]), f"{name}: {key}"
            torch.testing.assert_close(tensor, alone[key], rtol=1e-4, atol=1e-6, msg=f"{name}: {key}")
        lines = (tmp_path / name / "steps.jsonl").read_text().splitlines()
        assert sorted({json.loads(line)["step"] for line in lines}) == list(range(16))
