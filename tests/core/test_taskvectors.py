"""Task vectors: exact differences, read lazily, with every mismatch reported before any arithmetic."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import equipoise
from equipoise.core.tensorfile import TensorFile

Weights = dict[str, Tensor]


def model(seed: int, dtype: torch.dtype = torch.float32) -> Weights:
    draw = torch.Generator().manual_seed(seed)
    return {
        "embed": torch.randn(5, 3, generator=draw).to(dtype),
        "head.weight": torch.randn(2, 3, generator=draw).to(dtype),
        "head.bias": torch.randn(2, generator=draw).to(dtype),
        "temperature": torch.randn((), generator=draw).to(dtype),
        "none": torch.empty(0, 4, dtype=dtype),
        "positions": torch.arange(5),
    }


def save(folder: Path, **models: Weights) -> dict[str, Path]:
    paths = {name: folder / f"{name}.safetensors" for name in models}
    for name, tensors in models.items():
        save_file(tensors, paths[name])
    return paths


def test_rows_are_checkpoint_minus_base(tmp_path: Path):
    models = {"base": model(0), "fr": model(1), "de": model(2)}
    paths = save(tmp_path, **models)
    bundle = equipoise.task_vectors({"german": paths["de"], "french": paths["fr"]}, paths["base"])
    assert bundle.names == ("german", "french")
    assert set(bundle.blocks) == {"embed", "head.weight", "head.bias", "temperature", "none"}
    for block in bundle.blocks:
        expected = torch.stack([models[name][block] - models["base"][block] for name in ("de", "fr")])
        assert torch.equal(bundle.blocks[block], expected)
        assert bundle.blocks[block].shape == (2, *models["base"][block].shape)


def test_the_gramian_is_that_of_the_flat_differences(tmp_path: Path):
    models = {"base": model(0), "a": model(1), "b": model(2)}
    paths = save(tmp_path, **models)
    bundle = equipoise.task_vectors([paths["a"], paths["b"]], paths["base"])
    assert bundle.names == ("a", "b")
    keys = [key for key, value in models["a"].items() if value.is_floating_point()]
    flat = {name: torch.cat([w[k].flatten() for k in keys]).double() for name, w in models.items()}
    rows = torch.stack([(flat[name] - flat["base"]) for name in ("a", "b")])
    torch.testing.assert_close(bundle.gramian(), rows @ rows.T, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_coarse_weights_are_subtracted_in_float32(tmp_path: Path, dtype: torch.dtype):
    """200 minus a small number is no number of the stored dtype, but one of float32."""
    paths = save(
        tmp_path,
        base={"w": torch.tensor([1.0, 200.0]).to(dtype)},
        a={"w": torch.tensor([1.125, 0.001953125]).to(dtype)},
    )
    rows = equipoise.task_vectors([paths["a"]], paths["base"]).blocks["w"]
    assert rows.dtype == torch.float32
    stored = torch.tensor([1.0, 200.0]).to(dtype).float()
    assert rows.tolist() == [[0.125, float(0.001953125 - stored[1])]]


def test_float64_anywhere_makes_the_block_float64(tmp_path: Path):
    tiny = 1 + 2.0**-40
    paths = save(
        tmp_path,
        base={"w": torch.ones(1), "v": torch.ones(1)},
        a={"w": torch.tensor([tiny], dtype=torch.float64), "v": torch.ones(1)},
        b={"w": torch.tensor([2.0], dtype=torch.bfloat16), "v": torch.ones(1)},
    )
    blocks = equipoise.task_vectors([paths["a"], paths["b"]], paths["base"]).blocks
    assert blocks["w"].dtype == torch.float64
    assert blocks["w"].tolist() == [[2.0**-40], [1.0]]
    assert blocks["v"].dtype == torch.float32


def test_an_identical_checkpoint_is_a_zero_row(tmp_path: Path):
    paths = save(tmp_path, base=model(0), same=model(0), other=model(1))
    bundle = equipoise.task_vectors([paths["same"], paths["other"]], paths["base"])
    gramian = bundle.gramian()
    assert gramian[0].tolist() == [0.0, 0.0]
    assert gramian[1, 1] > 0
    assert bundle.combine([1.0, 0.0])["embed"].abs().sum() == 0


def test_integers_and_booleans_are_left_out_wherever_they_stand(tmp_path: Path):
    base = {"w": torch.ones(2), "seen": torch.tensor(3), "mask": torch.tensor([True])}
    grown = {"w": torch.zeros(2), "mask": torch.tensor([True, False]), "extra": torch.tensor(1)}
    paths = save(tmp_path, base=base, a=grown)
    bundle = equipoise.task_vectors([paths["a"]], paths["base"])
    assert list(bundle.blocks) == ["w"]
    assert "mask" not in bundle.blocks
    with pytest.raises(KeyError, match="no block is called 'mask'"):
        bundle.blocks["mask"]


def test_every_mismatch_is_reported_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    base = {"kept": torch.ones(2), "lost": torch.ones(1), "bent": torch.ones(2, 3), "cast": torch.ones(2)}
    other = {
        "kept": torch.ones(2),
        "bent": torch.ones(3, 2),
        "cast": torch.ones(2, dtype=torch.int8),
        "new": torch.ones(1),
        "wave": torch.ones(1, dtype=torch.complex64),
    }
    paths = save(tmp_path, base=base, good=base, bad=other)

    def read(self: TensorFile, name: str) -> Tensor:
        raise AssertionError(f"{name} was read")

    monkeypatch.setattr(TensorFile, "__getitem__", read)
    with pytest.raises(ValueError, match="do not match their base") as caught:
        equipoise.task_vectors([paths["good"], paths["bad"]], paths["base"])
    said = str(caught.value).splitlines()
    for name, words in {
        "lost": "of the base .* is missing",
        "bent": r"has shape \(3, 2\), in the base \(2, 3\)",
        "cast": r"is torch.int8, in the base torch.float32",
        "new": "is not in the base",
        "wave": "is torch.complex64; directions are real",
    }.items():
        (line,) = [line for line in said if f"'{name}'" in line]
        assert str(paths["bad"]) in line
        assert re.search(words, line)
    assert not any(str(paths["good"]) in line for line in said)


def test_many_mismatches_are_counted(tmp_path: Path):
    paths = save(
        tmp_path,
        base={f"w{i}": torch.ones(1) for i in range(30)} | {"same": torch.ones(1)},
        a={"same": torch.ones(1)},
    )
    with pytest.raises(ValueError, match="and 20 more"):
        equipoise.task_vectors([paths["a"]], paths["base"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_names_direction_file_and_tensor(tmp_path: Path, value: float):
    base, broken = model(0), model(1)
    broken["head.bias"] = torch.tensor([0.0, value])
    paths = save(tmp_path, base=base, good=model(2), bad=broken)
    bundle = equipoise.task_vectors([paths["good"], paths["bad"]], paths["base"])
    with pytest.raises(equipoise.NonFiniteDirection, match=r"'head\.bias' of .*bad\.safetensors") as caught:
        bundle.gramian()
    assert caught.value.names == ("bad",)
    save_file(broken, paths["base"])
    bundle = equipoise.task_vectors([paths["good"]], paths["base"])
    with pytest.raises(equipoise.NonFiniteDirection, match=r"'head\.bias' of .*base\.safetensors"):
        bundle.gramian()


def test_one_block_at_a_time_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = save(tmp_path, base=model(0), a=model(1), b=model(2))
    read: list[tuple[str, str]] = []
    original = TensorFile.__getitem__

    def counted(self: TensorFile, name: str) -> Tensor:
        read.append((self.path.stem, name))
        return original(self, name)

    monkeypatch.setattr(TensorFile, "__getitem__", counted)
    bundle = equipoise.task_vectors([paths["a"], paths["b"]], paths["base"])
    assert read == []
    bundle.blocks["embed"]
    assert read == [("base", "embed"), ("a", "embed"), ("b", "embed")]
    read.clear()
    bundle.gramian()
    assert len(read) == len(set(read)) == 3 * len(bundle.blocks)  # one pass


def test_folders_and_shards_serve_as_checkpoints(tmp_path: Path):
    weights = model(1)
    paths = save(tmp_path, base=model(0))
    folder = tmp_path / "tuned"
    folder.mkdir()
    placed = {}
    for i, (name, tensor) in enumerate(weights.items()):
        save_file({name: tensor}, folder / f"part-{i}.safetensors")
        placed[name] = f"part-{i}.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    bundle = equipoise.task_vectors([folder], paths["base"])
    assert bundle.names == ("tuned",)
    assert torch.equal(bundle.blocks["embed"][0], weights["embed"] - model(0)["embed"])


def test_a_sequence_names_by_stem_or_by_folder_where_stems_agree(tmp_path: Path):
    paths = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths.append(tmp_path / name / "model.safetensors")
        save_file(model(1), paths[-1])
    base = save(tmp_path, base=model(0))["base"]
    assert equipoise.task_vectors(paths[:1], base).names == ("model",)
    assert equipoise.task_vectors(paths, base).names == ("one", "two")
    with pytest.raises(ValueError, match="checkpoints repeat"):
        equipoise.task_vectors([paths[0], paths[0]], base)


def test_wrong_arguments_are_refused(tmp_path: Path):
    paths = save(tmp_path, base={"count": torch.tensor(1)}, a={"count": torch.tensor(1)})
    with pytest.raises(TypeError, match="give a sequence or mapping"):
        equipoise.task_vectors(str(paths["a"]), paths["base"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no floating-point tensor"):
        equipoise.task_vectors([paths["a"]], paths["base"])


def test_task_vectors_save_and_load_as_a_bundle(tmp_path: Path):
    paths = save(tmp_path, base=model(0), a=model(1), b=model(2))
    bundle = equipoise.task_vectors([paths["a"], paths["b"]], paths["base"])
    bundle.save(tmp_path / "vectors.safetensors")
    again = equipoise.Bundle.load(tmp_path / "vectors.safetensors")
    assert again.names == bundle.names
    assert list(again.blocks) == list(bundle.blocks)
    assert torch.equal(again.gramian(), bundle.gramian())
