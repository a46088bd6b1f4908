"""Several processes, each with its share of the batch, against one with all of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.core.ranks import RULES, train

ROOT = Path(__file__).parents[2]


def together(size: int, folder: Path, task: str, **arguments: Any) -> list[dict[str, Any]]:
    """What each of `size` real processes under gloo says."""
    command = [sys.executable, "-m", "tests.core.ranks"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    running = [
        subprocess.Popen(
            [*command, str(rank), str(size), str(folder), task, json.dumps(arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        talk = [process.communicate(timeout=120)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert all(process.returncode == 0 for process in running), "\n".join(talk)
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(size)]


@pytest.mark.parametrize(
    ("rule", "size", "wrapped"),
    [
        ("UPGrad", 2, True),
        ("UPGrad", 4, False),
        ("GradDrop", 2, False),
        ("FAMO", 2, True),
    ],
)
def test_replicas_stay_bit_identical_and_equal_one_process_on_all_samples(rule, size, wrapped, tmp_path):
    found = together(size, tmp_path, "train", rule_name=rule, wrapped=wrapped)
    for other in found[1:]:
        assert other["parameters"] == found[0]["parameters"]
        assert other["weights"] == found[0]["weights"]
    alone = train(rule, 0, 1)
    for name, values in alone["parameters"].items():
        torch.testing.assert_close(
            torch.tensor(found[0]["parameters"][name]), torch.tensor(values), rtol=1e-3, atol=1e-5
        )
    assert found[0]["traffic"] > 0
    assert alone["traffic"] == 0


def test_a_wide_layer_is_gathered_in_factors_and_split_budgets_agree(tmp_path):
    whole = together(2, tmp_path, "train", rule_name="UPGrad")
    assert "ghost" in whole[0]["forms"].values()
    (tmp_path / "split").mkdir()
    split = together(2, tmp_path / "split", "train", rule_name="UPGrad", max_memory="400KiB")
    assert split[0]["parameters"] == split[1]["parameters"]
    torch.testing.assert_close(
        torch.tensor(split[0]["gramian"]), torch.tensor(whole[0]["gramian"]), rtol=1e-3, atol=1e-7
    )


@pytest.mark.parametrize("kind", ["nan", "nan, one pass", "absent"])
def test_every_process_raises_where_one_has_a_fault(kind, tmp_path):
    found = together(2, tmp_path, "refused", kind=kind)
    for one in found:
        assert one["written"] is False
        if kind == "absent":
            assert "see other objectives or parameters" in one["raised"]
        else:
            assert "NonFiniteDirection" in one["raised"]
            assert "'number'" in one["raised"]


def test_sharded_parameters_are_refused_with_what_is_missing(tmp_path):
    found = together(2, tmp_path, "sharded")
    assert all("a reduction of directions over shards" in one["raised"] for one in found)


def test_one_process_alone_may_be_asked_for(tmp_path):
    found = together(2, tmp_path, "train", rule_name="UPGrad", process_group=False)
    assert found[0]["parameters"] != found[1]["parameters"]
    assert found[0]["traffic"] == 0


def test_every_rule_of_the_workers_exists():
    assert all(callable(make) for make in RULES.values())
