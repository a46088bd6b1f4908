"""Slices: layers of the models one behind the other, the base's own beside them."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.merging.layered import LAYERS, paths, saved, tensors

from equipoise.merging.specified import Specified
from equipoise.merging.specify import specify


@pytest.fixture
def folder(tmp_path):
    return saved(tmp_path)


def test_slices_put_layers_one_behind_the_other(folder):
    source = paths(folder, "a", "b")
    pieces = [
        {"sources": [{"model": "a", "layers": [0, 2]}], "options": {"model": "a"}},
        {"sources": [{"model": "b", "layers": [1, 4]}], "options": {"model": "b", "scale": 2}},
    ]
    found = Specified(specify({"models": source, "method": "passthrough", "slices": pieces})).run()
    a, b = load_file(source["a"]), load_file(source["b"])
    assert len(found) == 2 + 2 * 5
    assert torch.equal(found["layers.1.mlp.w"], a["layers.1.mlp.w"])
    assert torch.equal(found["layers.2.attn.w"], 2 * b["layers.1.attn.w"])
    assert torch.equal(found["layers.4.mlp.w"], 2 * b["layers.3.mlp.w"])
    assert torch.equal(found["embed.weight"], a["embed.weight"])
    assert torch.equal(found["head"], 2 * b["head"])


def test_slices_take_the_bases_own_layers_for_task_vectors(folder):
    pieces = [
        {
            "sources": [
                {"model": "a", "layers": [2, 4], "options": {"weight": {"gradient": [1, 3]}}},
                {"model": "base", "layers": [0, 2]},
            ]
        }
    ]
    base = str(folder / "base.safetensors")
    told = {"models": paths(folder, "a"), "base": base, "method": "TaskArithmetic", "slices": pieces}
    found = Specified(specify(told)).run()
    a, origin = load_file(folder / "a.safetensors"), load_file(base)
    for at, weight in ((0, 1), (1, 3)):
        start = origin[f"layers.{at}.mlp.w"]
        wanted = start + weight * (a[f"layers.{at + 2}.mlp.w"] - start)
        torch.testing.assert_close(found[f"layers.{at}.mlp.w"], wanted)


def test_slices_write_the_number_and_kinds_of_layers(tmp_path):
    for seed, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        save_file(tensors(seed), tmp_path / name / "model.safetensors")
        config = {
            "num_hidden_layers": LAYERS,
            "layer_types": [f"{name}{i}" for i in range(LAYERS)],
            "vocab_size": 4,
        }
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    pieces = [
        {"sources": [{"model": "a", "layers": [0, 2]}], "options": {"model": "a"}},
        {"sources": [{"model": "b", "layers": [4, 5]}], "options": {"model": "b"}},
    ]
    told = {"models": [str(tmp_path / "a"), str(tmp_path / "b")], "method": "passthrough", "slices": pieces}
    Specified(specify(told)).run(tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["num_hidden_layers"], config["layer_types"]) == (3, ["a0", "a1", "b4"])


def test_layers_that_a_model_lacks_are_refused(folder):
    pieces = [{"sources": [{"model": "a", "layers": [3, 6]}], "options": {"model": "a"}}]
    told = specify({"models": paths(folder, "a"), "method": "passthrough", "slices": pieces})
    with pytest.raises(ValueError, match=r"a.safetensors has 5 layers; layers \[3, 6\] are asked of it"):
        Specified(told)


def test_a_base_in_some_slices_only_is_refused(folder):
    sources = [{"model": "a", "layers": [0, 1]}, {"model": "base", "layers": [0, 1]}]
    base = str(folder / "base.safetensors")
    told = {
        "models": paths(folder, "a"),
        "base": base,
        "slices": [{"sources": sources}, {"sources": sources[:1]}],
    }
    with pytest.raises(ValueError, match="slice 2 has no layers of the base"):
        Specified(specify(told))
