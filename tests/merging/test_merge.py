"""Files and memory give the same; models are matched by name; the folder is written whole or not at all."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from equipoise.core.tensorfile import TensorFile
from equipoise.merging import DARE, TIES, Average, Karcher, MultiSlerp, TaskArithmetic, merge
from equipoise.merging.block import CHUNK
from equipoise.merging.source import StateDict


def models(seed=0, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)

    def one():
        return {
            "embed": torch.randn(37, 8, generator=draw).to(dtype),
            "layers.0.w": torch.randn(CHUNK // 8 + 3, 9, generator=draw).to(dtype),
            "layers.1.w": torch.randn(5, 7, generator=draw).to(dtype),
            "scale": torch.randn((), generator=draw).to(dtype),
            "count": torch.tensor([3, 4]),
        }

    return {"a": one(), "b": one(), "c": one()}, one()


def saved(folder, tensors):
    save_file(tensors, folder)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("threads", [1, 3])
def test_files_give_what_memory_gives(tmp_path, dtype, threads):
    given, base = models(dtype=dtype)
    paths = {name: saved(tmp_path / f"{name}.safetensors", tensors) for name, tensors in given.items()}
    origin = saved(tmp_path / "base.safetensors", base)
    method = TaskArithmetic(weight=[0.5, 0.2, -0.1], scale=0.7)
    merge(paths, origin, method=method, out=tmp_path / "out", threads=threads)
    written = load_file(tmp_path / "out" / "model.safetensors")
    held = merge(given, base, method=method)
    assert list(TensorFile(tmp_path / "out")) != []
    for name, tensor in base.items():
        assert written[name].dtype == tensor.dtype
        assert torch.equal(written[name], held[name])
    deltas = [tensors["embed"].double() - base["embed"].double() for tensors in given.values()]
    right = base["embed"].double() + 0.7 * (0.5 * deltas[0] + 0.2 * deltas[1] - 0.1 * deltas[2])
    torch.testing.assert_close(held["embed"], right.to(dtype))


def test_shards_are_read_back(tmp_path):
    given, base = models()
    merge(given, base, method=Average(), out=tmp_path / "out", shard_size=1_500)
    files = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 1
    found, held = TensorFile(tmp_path / "out"), merge(given, base, method=Average())
    assert {name: torch.equal(found[name], held[name]) for name in held} == dict.fromkeys(base, True)


def test_an_error_leaves_nothing(tmp_path):
    given, base = models()
    given["b"]["layers.1.w"][2, 3] = float("nan")
    with pytest.raises(ValueError, match=r"tensor 'layers.1.w' of b holds NaN"):
        merge(given, base, method=Average(), out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", [Average, TaskArithmetic, DARE, Karcher, MultiSlerp])
def test_weights_that_cancel_up_to_rounding_are_refused(method):
    """0.1 + 0.2 - 0.3 is 5.6e-17 in float64."""
    models = {name: {"w": torch.full((3,), value)} for name, value in {"a": 1.0, "b": 2.0, "c": 3.0}.items()}
    options = {"weight": [0.1, 0.2, -0.3]}
    options |= {"normalize": True} if "normalize" in method.__dataclass_fields__ else {}
    with pytest.raises(ValueError, match="the weights of a, b, c sum to 0"):
        merge(models, {"w": torch.zeros(3)}, method=method(**options))
    apart = merge(models, {"w": torch.zeros(3)}, method=Average(weight=[0.1, 0.2, -0.299]))["w"]
    torch.testing.assert_close(apart, torch.full((3,), -397.0), rtol=1e-5, atol=0)


def test_equal_rules_have_one_global_threshold():
    given, base = models()
    given = {name: {**one, "layers.1.w": 3 * one["layers.1.w"]} for name, one in given.items()}
    whole = merge(given, base, method=TIES(density=0.3))
    apart = merge(given, base, method=lambda name: TIES(density=0.3, weight=[1, 1, 1]))
    alone = merge(given, base, method=TIES(density=0.3, scope="tensor"))
    assert all(torch.equal(apart[name], tensor) for name, tensor in whole.items())
    assert not torch.equal(alone["layers.1.w"], whole["layers.1.w"])
    mixed = merge(given, base, method=lambda name: TIES(density=0.3) if name == "embed" else Average())
    only = {name: {"embed": one["embed"]} for name, one in given.items()}
    embed = merge(only, {"embed": base["embed"]}, method=TIES(density=0.3))["embed"]
    assert torch.equal(mixed["embed"], embed)


def test_two_models_of_one_name_are_refused(tmp_path):
    path = saved(tmp_path / "model_0.safetensors", {"w": torch.ones(1)})
    with pytest.raises(ValueError, match=r"two models are called model_0; name them"):
        merge([{"w": torch.zeros(1)}, path], method=Average())
    other = shutil.copy(path, tmp_path / "model_2.safetensors")
    assert merge([{"w": torch.zeros(1)}, other], method=Average())["w"] == 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"on_missing": "foo"}, "on_missing is 'foo'; choices are 'fail', 'base', 'skip'"),
        ({"vocab": "foo"}, "vocab is 'foo'; choices are 'fail', 'intersect', 'union'"),
        ({"reading": "foo"}, "reading is 'foo'; choices are 'map', 'read'"),
        ({"hashes": "foo"}, "hashes is 'foo'; choices are 'sampled', 'whole'"),
        ({"dtype": torch.int8}, "dtype is torch.int8; choose one of floating point"),
        ({"dtype": torch.bool}, "dtype is torch.bool"),
        ({"dtype": torch.complex64}, "dtype is torch.complex64"),
        ({"precision": torch.bfloat16}, "precision is torch.bfloat16; choices are None, torch.float32"),
        ({"precision": torch.int32}, "precision is torch.int32"),
        ({"threads": 0}, "threads 0; both must be at least 1"),
        ({"threads": -1}, "threads -1"),
        ({"shard_size": -1}, "shard_size is -1"),
    ],
)
def test_options_out_of_their_choices_are_refused(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        merge([{"w": torch.ones(2)}], method=Average(), out=tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_tensor_is_refused_by_name():
    with pytest.raises(ValueError, match=r"model_0: 'a._extra_state' is None, not a tensor; leave it out"):
        merge([{"w": torch.ones(2), "a._extra_state": None}], method=Average())
    with pytest.raises(ValueError, match=r"base: 'model' is a dict, not a tensor"):
        merge([{"w": torch.ones(2)}], {"model": {"w": torch.ones(2)}}, method=Average())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1), (0, 2, 1)])
def test_any_stride_gives_the_same(order):
    draw = torch.Generator().manual_seed(0)
    tensor = torch.randn(30, 50, 70, generator=draw).permute(order)
    base = {"w": torch.zeros(tensor.shape)}
    merged = merge([{"w": tensor}], base, method=TaskArithmetic(scale=1))["w"]
    assert torch.equal(merged, tensor)


def test_a_part_of_a_strided_tensor_copies_no_more_than_its_rows():
    vast = torch.tensor([0.0, 1.0])[:, None, None].expand(2, 1 << 30, 1 << 10)
    tensor = StateDict({"w": vast}, "a")
    assert tensor.part("w", (1 << 40) + 5000, (1 << 40) + 5010).tolist() == [1.0] * 10
