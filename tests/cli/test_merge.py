"""`equipoise merge` as a user starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tests.cli.command import SOURCE, equipoise

from equipoise.cli.main import main
from equipoise.merging import TIES
from equipoise.merging import merge as merge_models


def tensors(seed: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(6, 5, generator=draw) for name in ("embed", "layers.0.mlp", "layers.1.mlp", "head")
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("base", "a", "b")):
        save_file(tensors(seed), tmp_path / f"{name}.safetensors")
    told = {
        "models": {"a": "a.safetensors", "b": {"path": "b.safetensors", "options": {"weight": 2}}},
        "base": "base.safetensors",
        "method": "ties",
        "options": {"density": 0.5},
    }
    (tmp_path / "merge.yaml").write_text(yaml.safe_dump(told))
    return tmp_path


def test_models_named_on_the_line_and_in_a_file_give_the_same(folder: Path):
    line = ["--method", "ties", "--base", "base.safetensors", "--set", "density=0.5", "--set", "b.weight=2"]
    said = equipoise("merge", "a.safetensors", "b.safetensors", *line, "-o", "one", folder=folder)
    assert said.stdout.startswith("one: 4 tensors, 480 B")
    equipoise("merge", "merge.yaml", "-o", "two", folder=folder)
    one, two = (load_file(folder / name / "model.safetensors") for name in ("one", "two"))
    models = {name: folder / f"{name}.safetensors" for name in "ab"}
    wanted = merge_models(models, folder / "base.safetensors", method=TIES(density=0.5, weight=[1, 2]))
    for name in wanted:
        assert torch.equal(one[name], wanted[name])
        assert torch.equal(two[name], wanted[name])


def test_a_file_of_mergekit_is_read(folder: Path):
    told = {
        "merge_method": "linear",
        "models": [{"model": "a.safetensors"}, {"model": "b.safetensors"}],
        "parameters": {"weight": 1},
        "dtype": "bfloat16",
    }
    (folder / "peer.yml").write_text(yaml.safe_dump(told))
    printed = yaml.safe_load(equipoise("merge", "peer.yml", "--print-spec", folder=folder).stdout)
    assert (printed["method"], printed["dtype"], list(printed["models"])) == (
        "Average",
        "bfloat16",
        ["a", "b"],
    )
    equipoise("merge", "peer.yml", "-o", "out", "--set", "a.weight=3", "--dtype", "float32", folder=folder)
    found, a, b = (
        load_file(folder / name) for name in ("out/model.safetensors", "a.safetensors", "b.safetensors")
    )
    torch.testing.assert_close(found["head"], (3 * a["head"] + b["head"]) / 4)


def test_what_is_printed_is_a_specification_with_all_defaults(folder: Path):
    printed = equipoise("merge", "merge.yaml", "--print-spec", "--threads", "2", folder=folder).stdout
    (folder / "full.yaml").write_text(printed)
    told = yaml.safe_load(printed)
    assert (told["options"]["scope"], told["options"]["scale"], told["threads"]) == ("global", 1.0, 2)
    assert equipoise("merge", "full.yaml", "--print-spec", folder=folder).stdout == printed


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(folder: Path):
    before = sorted(folder.iterdir())
    told = json.loads(equipoise("merge", "merge.yaml", "--dry-run", "--json", folder=folder).stdout)
    assert (told["read"], told["written"], told["tensors"]) == (3 * 480, 480, 4)
    assert told["memory"] > 0
    assert told["seconds"] > 0
    assert [(rule["tensors"], rule["bytes"]) for rule in told["rules"]] == [(4, 480)]
    text = equipoise("merge", "merge.yaml", "--dry-run", folder=folder).stdout
    assert "4 tensors, 480 B: TIES(" in text
    assert sorted(folder.iterdir()) == before


def test_json_is_a_summary(folder: Path):
    told = json.loads(equipoise("merge", "merge.yaml", "-o", "out", "--json", folder=folder).stdout)
    assert (told["out"], told["method"], told["tensors"], told["bytes"]) == ("out", "TIES", 4, 480)


def test_policies_reach_the_merge(folder: Path):
    less = tensors(1)
    del less["head"]
    save_file(less, folder / "a.safetensors")
    refused = equipoise("merge", "merge.yaml", "-o", "out", folder=folder, code=1)
    assert "a.safetensors: tensor 'head'" in refused.stderr
    assert not (folder / "out").exists()
    said = equipoise("merge", "merge.yaml", "-o", "out", "--on-missing", "skip", folder=folder)
    assert "note: a.safetensors" in said.stderr
    assert (
        equipoise("merge", "merge.yaml", "-o", "o2", "--on-missing", "skip", "--quiet", folder=folder).stderr
        == ""
    )


def test_check_tells_all_that_is_not_finite(folder: Path):
    for seed, name in enumerate("ab", 1):
        save_file({**tensors(seed), name: torch.tensor([float("nan")])}, folder / f"{name}.safetensors")
    arguments = ["merge", "a.safetensors", "b.safetensors", "--method", "average", "--on-missing", "skip"]
    refused = equipoise(*arguments, "-o", "out", "--check", folder=folder, code=1)
    for name in "ab":
        assert f"tensor '{name}' of {name}.safetensors holds NaN or infinity" in refused.stderr
    assert not list(folder.glob("*out*"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["merge.yaml"], 2, "name a new folder with --out DIR"),
        (
            ["merge.yaml", "-o", "out", "--set", "densty=1"],
            1,
            "merge.yaml: TIES: no option is called 'densty'",
        ),
        (["merge.yaml", "-o", "out", "--set", "density"], 2, "is not of the form key=value"),
        (["merge.yaml", "-o", "out", "--method", "tise"], 1, "no merging method is called 'tise'"),
        (["absent.yaml", "-o", "out"], 1, "absent.yaml: No such file"),
        (["absent", "a.safetensors", "-o", "out"], 1, "absent"),
        (["a=a.safetensors", "x.safetensors", "-o", "out"], 2, "name all models"),
        (["a.safetensors", "-o", "out", "--method", "ties"], 1, "base"),
        (["merge.yaml", "--dry-run", "--print-spec"], 2, "exclude each other"),
        (["merge.yaml", "-o", "out", "--front"], 2, "name it with --problem"),
        (["merge.yaml", "-o", "out", "--problem", "x"], 2, "--problem is for"),
        (["a.safetensors", "b.safetensors", "--inspect"], 2, "--inspect needs the base"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
):
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    with pytest.raises(SystemExit) as ended:
        main(["merge", *arguments])
    assert ended.value.code == code
    assert words in " ".join(capsys.readouterr().err.split())
    assert sorted(folder.iterdir()) == before


PROBLEM = """
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from equipoise.core.problem import Metric, Problem

TRUE = {"left": torch.tensor([1.0, 0.0]), "right": torch.tensor([0.0, 1.0])}


@dataclass
class Two(Problem):
    objectives: ClassVar[tuple[str, ...]] = ("left", "right")
    metrics: ClassVar[Mapping[str, Metric]] = {n: Metric("mse", "lower") for n in ("left", "right")}

    def model(self):
        return nn.Linear(2, 1, bias=False)

    def batches(self, split, generator):
        draw = torch.Generator().manual_seed(len(split))
        for _ in range(4):
            yield torch.randn(16, 2, generator=draw)

    def losses(self, model, batch):
        return {n: (model(batch)[:, 0] - batch @ w).square().mean() for n, w in TRUE.items()}

    def evaluate(self, model, split):
        batch = next(iter(self.batches(split, None)))
        return {n: float(loss) for n, loss in self.losses(model, batch).items()}
"""


@pytest.fixture
def experts(tmp_path: Path) -> Path:
    (tmp_path / "two.py").write_text(PROBLEM)
    for name, row in (("base", [0.0, 0.0]), ("left", [1.0, 0.0]), ("right", [0.0, 1.0])):
        save_file({"weight": torch.tensor([row])}, tmp_path / f"{name}.safetensors")
    return tmp_path


EXPERTS = ("left.safetensors", "right.safetensors", "--base", "base.safetensors")


def test_inspect_prints_and_writes_a_page(experts: Path):
    said = equipoise("merge", *EXPERTS, "--inspect", "--problem", "two.py", "-o", "look.html", folder=experts)
    assert "left" in said.stdout
    assert (experts / "look.html").read_text().startswith("<!")
    told = json.loads(equipoise("merge", *EXPERTS, "--inspect", "--json", folder=experts).stdout)
    assert told["names"] == ["left", "right"]
    assert told["evaluations"] is None


def test_calibrate_measures_what_fisher_and_regmean_merge_by(experts: Path):
    models = EXPERTS[:2]
    said = equipoise("merge", *models, "--calibrate", "two.py", "-o", "stats", "--json", folder=experts)
    paths = json.loads(said.stdout)
    assert set(paths) == {"gram", "fisher"}
    left, right = (load_file(experts / paths["gram"][name])["weight"] for name in ("left", "right"))
    more = [
        word for name in ("left", "right") for word in ("--set", f"statistics.{name}={paths['gram'][name]}")
    ]
    equipoise("merge", *models, "--method", "regmean", *more, "-o", "out", folder=experts)
    found = load_file(experts / "out" / "model.safetensors")["weight"]
    wanted = (left[0] + right[1]) @ (left + right).inverse()  # the experts are rows of the identity
    torch.testing.assert_close(found[0].double(), wanted, atol=1e-3, rtol=0)


def test_front_traces_trade_offs_and_merges_for_a_preference(experts: Path):
    said = equipoise(
        *("merge", *EXPERTS, "--front", "--problem", "two.py", "-o", "out"),
        *("--evaluations", "9", "--preference", "left=0.8,right=0.2", "--json"),
        folder=experts,
    )
    told = json.loads(said.stdout)
    assert told["evaluated"] == 9
    assert max(error for error in told["error"].values()) < 1e-3  # the loss is a quadratic of the weights
    weights = told["picked"]["weights"]
    assert weights["left"] > weights["right"]
    found = load_file(experts / "out" / "merged-left=0.8,right=0.2" / "model.safetensors")["weight"]
    torch.testing.assert_close(found[0], torch.tensor([weights["left"], weights["right"]]))
    assert (experts / "out" / "front.html").stat().st_size > 1000


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        main(["merge", *arguments])
    return int(ended.value.code or 0)


FRONT = (*EXPERTS, "--front", "--problem", "two.py", "-o", "out", "--evaluations", "7")


def test_front_does_what_it_is_told_and_says_beforehand_what_it_cannot(
    experts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    kept = experts / "out" / "evaluations.jsonl"
    for words, more in (
        ("Average cannot merge at the weights {'left': 0.0, 'right': 0.0}", ["--method", "average"]),
        ("no objective is called 'lift'; nearest: left", ["--preference", "lift=1"]),
        ("2 objectives are to be weighed: left, right", ["--preference", "1"]),
        ("leave out slices, rules, weights", ["--set", "left.weight=2"]),
        ("leave out slices, rules, weights", ["--set", "weight=2"]),
    ):
        assert run(experts, monkeypatch, *FRONT, *more) > 0
        assert words in " ".join(capsys.readouterr().err.replace("│", "").split())
        assert not kept.exists() or len(kept.read_text().splitlines()) == 1
    kept.unlink()
    assert run(experts, monkeypatch, *FRONT, "--dtype", "float16", "--preference", "0.5,0.5") == 0
    merged = experts / "out" / "merged-0.5,0.5"
    assert load_file(merged / "model.safetensors")["weight"].dtype == torch.float16
    assert json.loads((experts / "out" / "front.json").read_text())["picked"]["model"] == merged.name
    evaluated = kept.read_text()
    (experts / "out" / "front.json").unlink()
    assert run(experts, monkeypatch, *FRONT, "--dtype", "float16", "--preference", "0.5,0.5") == 1
    assert "exists already" in capsys.readouterr().err
    assert run(experts, monkeypatch, *FRONT, "--dtype", "float16", "--preference", "left=1,right=0") == 0
    assert (experts / "out" / "merged-left=1,right=0" / "model.safetensors").is_file()
    assert kept.read_text() == evaluated
    (experts / "two.py").write_text(PROBLEM.replace("[1.0, 0.0]", "[2.0, 0.0]"))
    assert run(experts, monkeypatch, *FRONT, "--dtype", "float16") == 1
    assert "evaluations of other merges: evaluation.problem was 'SHA-256" in capsys.readouterr().err


def test_inspect_says_what_it_does_not_look_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(folder, monkeypatch, "merge.yaml", "--inspect") == 0
    assert "whatever the method, its options and rules" in capsys.readouterr().err
    told = yaml.safe_load((folder / "merge.yaml").read_text())
    (folder / "cut.yaml").write_text(
        yaml.safe_dump({**told, "slices": [{"sources": [{"model": "a", "layers": [0, 1]}]}]})
    )
    assert run(folder, monkeypatch, "cut.yaml", "--inspect") == 2
    assert "leave out slices" in capsys.readouterr().err


def test_nothing_is_left_of_a_merge_that_the_system_ends(tmp_path: Path):
    for name, value in (("a", 1.0), ("b", 2.0)):
        save_file(
            {f"w{i}": torch.full((1000, 1000), value + i) for i in range(9)}, tmp_path / f"{name}.safetensors"
        )
    before = set(tmp_path.iterdir())
    words = ["merge", "a.safetensors", "b.safetensors", "--method", "karcher", "--threads", "1", "-o", "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "equipoise.cli.main", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
    )
    while process.poll() is None and not any(
        path.stat().st_blocks * 512 > 10**6 for path in tmp_path.rglob("model.safetensors")
    ):
        time.sleep(0.001)  # until the first tensor is written
    process.send_signal(signal.SIGTERM)
    assert process.communicate() == (b"", None)
    assert process.returncode == 128 + signal.SIGTERM
    assert set(tmp_path.iterdir()) == before
