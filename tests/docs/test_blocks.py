"""The Python of the pages that were written by hand runs, in the order in which it stands there."""

import ast
import re
from pathlib import Path

import pytest
import torch

import equipoise
from equipoise.aggregation import Mean, UPGrad
from equipoise.core.tensorfile import write_tensors
from equipoise.problems import problem
from equipoise.scalarization import FAMO
from equipoise.transferability import write_features

DOCS = Path(__file__).parent.parent.parent / "docs"


def blocks(page):
    """The blocks of Python of a page."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run(page, names):
    """Execute all blocks of a page, one after the other, and give what they leave."""
    held = dict(names)
    found = blocks(page)
    assert found
    for number, block in enumerate(found):
        exec(compile(block, f"{page}.md, block {number + 1}", "exec"), held)
    return held


def loop():
    """What stands around a step in anybody's code: a model of two tasks, its data, an optimizer."""
    digits = problem("digits-pairs", pairs=64, judged=8)
    digits.prepare()
    torch.manual_seed(0)
    model = digits.model()
    batches = list(digits.batches("train", torch.Generator().manual_seed(0)))
    return {
        "torch": torch,
        "equipoise": equipoise,
        "UPGrad": UPGrad,
        "model": model,
        "batch": batches[0],
        "loader": batches,
        "parts": batches,
        "compute": digits.losses,
        "rule": UPGrad(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "last_batch": True,
    }


def test_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    held = loop()
    model, compute, batch = held["model"], held["compute"], held["batch"]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    points = torch.tensor([[0.1, 0.9], [0.5, 0.5], [0.9, 0.1]])
    front = equipoise.Front(("left", "right"), points, solutions=[state] * 3)
    (tmp_path / "runs" / "digits-pairs-front").mkdir(parents=True)
    front.save("runs/digits-pairs-front/front.safetensors")

    def fresh():
        return dict(compute(model, batch))

    z = torch.randn(6, 4, requires_grad=True)
    for number, block in enumerate(blocks("start")):
        for line in statements(block):
            held |= {"losses": fresh(), "more": fresh()}
            held["per_sample_losses"] = torch.stack(list(fresh().values()))
            if "features=z" in line:
                z.grad = None
                held |= {"z": z, "losses": {"left": (z @ torch.ones(4)).mean(), "right": z.square().mean()}}
            exec(compile(line, f"start.md, block {number + 1}", "exec"), held)
    assert (tmp_path / "front.html").is_file()


def statements(block):
    """The statements of a block, as text."""
    return [ast.unparse(part) for part in ast.parse(block).body]


def test_training_in_a_plain_loop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    held = loop()
    exec(blocks("training")[0], held)
    lines = (tmp_path / "runs" / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) >= len(held["loader"])


def test_what_the_blocks_for_trainers_import_exists():
    for block in blocks("training")[1:]:
        for line in re.findall(r"^from equipoise.*", block, re.MULTILINE):
            exec(line, {})


def test_federated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = blocks("federated")
    assert "rounds=100" in found[0]
    held = {}
    for block in found:
        exec(block.replace("rounds=100", "rounds=2").replace("rounds=10)", "rounds=2)"), held)
    assert len(held["finished"].history) == 2


def test_merging(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draws = torch.Generator().manual_seed(0)
    base = {"layer.weight": torch.randn(4, 3, generator=draws)}
    models = []
    for name in ("base", "tuned-fr", "tuned-de"):
        tensors = {key: t + 0.1 * torch.randn(t.shape, generator=draws) for key, t in base.items()}
        (tmp_path / name).mkdir()
        write_tensors(tmp_path / name / "model.safetensors", tensors.items())
        models.append(tensors)
    held = run("merging", {"state_dict": models[1], "another": models[2], "base": models[0]})
    assert list((tmp_path / "merged").glob("*.safetensors"))
    middle = (models[1]["layer.weight"] + models[2]["layer.weight"]) / 2
    torch.testing.assert_close(held["merged"]["layer.weight"], middle)


def test_selecting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    (tmp_path / "features").mkdir()
    for name in ("resnet", "vit"):
        features = torch.randn(40, 5, generator=draws)
        write_features(tmp_path / "features" / f"{name}.npz", [(features.numpy(), labels.numpy(), None)])
    run("selecting", {"features": features, "labels": labels})


def test_a_rule_stands_for_the_mean_in_every_block():
    """What the tests above put in the place of `rule` is not what makes them pass."""
    for make in (Mean, FAMO):
        held = loop() | {"rule": make()}
        held["losses"] = dict(held["compute"](held["model"], held["batch"]))
        exec(next(block for block in blocks("start") if "rule.update" in block), held)


def test_scaling():
    held = run("scaling", {})
    assert sum(held["sampler"].average.values()) == pytest.approx(1.0)
    assert held["mixed"].sampler.step == 10
