"""Tensors on disk: what we write, safetensors reads; what anyone wrote, we read lazily."""

import json
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from equipoise.core.tensorfile import DTYPES, TensorFile, named, write_tensors

TENSORS = {
    "zulu": torch.tensor([[1.0, -2.5], [float("nan"), float("inf")]]),
    "alpha": torch.tensor([0.1, 3e38, -1.5], dtype=torch.bfloat16),
    "scalar": torch.tensor(7.5, dtype=torch.float64),
    "empty": torch.empty(0, 3, dtype=torch.float16),
    "flags": torch.tensor([True, False, True]),
    "bytes": torch.arange(6, dtype=torch.uint8),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "every other": torch.arange(10, dtype=torch.int64)[::2],
    'name with " and ü': torch.ones(1, dtype=torch.int16),
}


def same(left: Tensor, right: Tensor) -> bool:
    bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (left, right)]
    return left.dtype == right.dtype and left.shape == right.shape and torch.equal(*bits)


def test_safetensors_reads_what_is_written_bit_for_bit(tmp_path: Path):
    path = tmp_path / "all.safetensors"
    write_tensors(path, TENSORS.items(), {"who": "Zoë"})
    found = load_file(path)
    assert set(found) == set(TENSORS)
    assert all(same(found[name], tensor) for name, tensor in TENSORS.items())
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"who": "Zoë"}


@pytest.mark.parametrize("label", DTYPES)
def test_every_dtype_makes_the_round_trip_under_the_name_that_safetensors_has_for_it(
    tmp_path: Path, label: str
):
    tensor = torch.arange(48, dtype=torch.uint8).view(torch.uint8)
    tensor = (tensor % 2).bool() if DTYPES[label] == torch.bool else tensor.view(DTYPES[label])
    path = tmp_path / "one.safetensors"
    write_tensors(path, [("odd", torch.zeros(3, dtype=torch.uint8)), ("x", tensor)])
    assert same(load_file(path)["x"], tensor)
    file = TensorFile(path)
    assert file.dtype("x") == tensor.dtype
    assert same(file["x"], tensor)
    with safe_open(path, "pt") as opened:
        assert opened.get_slice("x").get_dtype() == label


def test_names_keep_their_order_and_tensors_their_alignment(tmp_path: Path):
    path = tmp_path / "order.safetensors"
    write_tensors(path, TENSORS.items())
    file = TensorFile(path)
    assert list(file) == list(TENSORS)
    assert len(file) == len(TENSORS)
    assert all(file[n].data_ptr() % t.element_size() == 0 for n, t in TENSORS.items() if t.numel())


def test_shape_and_dtype_come_from_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_file(
        {"w": torch.zeros(3, 4, dtype=torch.bfloat16), "s": torch.tensor(1)}, tmp_path / "a.safetensors"
    )
    file = TensorFile(tmp_path / "a.safetensors")
    monkeypatch.setattr(TensorFile, "__getitem__", None)
    assert file.shape("w") == (3, 4)
    assert file.shape("s") == ()
    assert file.dtype("w") == torch.bfloat16


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path):
    """Each tensor is dropped before the next is made, whatever the number."""
    import weakref

    alive: set[int] = set()
    most = 0

    def entries() -> Iterator[tuple[str, Tensor]]:
        nonlocal most
        for i in range(8):
            tensor = torch.full((1000,), float(i))
            alive.add(i)
            weakref.finalize(tensor, alive.discard, i)
            most = max(most, len(alive))
            yield str(i), tensor
            del tensor

    write_tensors(tmp_path / "stream.safetensors", entries())
    assert most == 1
    assert float(load_file(tmp_path / "stream.safetensors")["7"].mean()) == 7.0


def test_a_failing_source_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    write_tensors(path, [("w", torch.ones(2))])

    def broken() -> Iterator[tuple[str, Tensor]]:
        yield "w", torch.zeros(2)
        raise RuntimeError("the disk of another")

    with pytest.raises(RuntimeError, match="another"):
        write_tensors(path, broken())
    assert os.listdir(tmp_path) == ["model.safetensors"]
    assert load_file(path)["w"].tolist() == [1.0, 1.0]


def test_a_file_can_be_rewritten_from_itself(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    write_tensors(path, [("w", torch.ones(100_000)), ("v", torch.full((5,), 2.0))])
    file = TensorFile(path)
    write_tensors(path, ((name, tensor + 1) for name, tensor in file.items()))
    assert float(file["w"].mean()) == 1.0  # the open file is the old one
    assert float(TensorFile(path)["w"].mean()) == 2.0


def test_writing_into_a_tensor_does_not_reach_the_file(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    write_tensors(path, [("w", torch.ones(4))])
    TensorFile(path)["w"].zero_()
    assert TensorFile(path)["w"].tolist() == [1.0] * 4


def shards(folder: Path) -> dict[str, Tensor]:
    tensors = {f"layer.{i}": torch.full((2, 2), float(i)) for i in range(4)}
    placed = {}
    for part in (1, 2):
        name = f"model-{part:05}-of-00002.safetensors"
        mine = {n: t for n, t in tensors.items() if int(n[-1]) % 2 == part - 1}
        save_file(mine, folder / name, {"format": "pt"})
        placed |= dict.fromkeys(mine, name)
    index = {"metadata": {"total_size": 64}, "weight_map": dict(sorted(placed.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return tensors


@pytest.mark.parametrize("given", ["", "model.safetensors.index.json"])
def test_a_sharded_folder_reads_as_one_file(tmp_path: Path, given: str):
    tensors = shards(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02never opened")
    file = TensorFile(tmp_path / given)
    assert list(file) == list(tensors)
    assert all(torch.equal(file[name], tensor) for name, tensor in tensors.items())
    assert file.metadata == {"total_size": "64"}


def test_a_folder_with_one_file_is_that_file(tmp_path: Path):
    save_file({"w": torch.ones(1)}, tmp_path / "adapter_model.safetensors")
    assert list(TensorFile(tmp_path)) == ["w"]


@pytest.mark.parametrize("complete", [True, False])
def test_one_file_goes_before_an_index_that_was_left_beside_it(tmp_path: Path, complete: bool):
    """As `from_pretrained` of transformers reads a folder that was saved twice."""
    shards(tmp_path)
    save_file({"w": torch.ones(1)}, tmp_path / "model.safetensors")
    if not complete:
        (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert list(TensorFile(tmp_path)) == ["w"]


def test_a_missing_shard_is_named(tmp_path: Path):
    shards(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="missing shards: model-00002-of-00002"):
        TensorFile(tmp_path)


def test_a_tensor_that_its_shard_does_not_hold_is_named(tmp_path: Path):
    shards(tmp_path)
    save_file({"layer.0": torch.ones(2, 2)}, tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(ValueError, match=r"'layer\.2' in model-00001-of-00002"):
        TensorFile(tmp_path)


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", "..", "a/b.safetensors", 3])
def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path, shard: object):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": shard}}))
    with pytest.raises(ValueError, match=r"'w' lies in .* no file of this folder"):
        TensorFile(tmp_path)


@pytest.mark.parametrize("content", ["not json", "[]", "{}", '{"weight_map": 3}'])
def test_a_broken_index_is_named(tmp_path: Path, content: str):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"index\.json: not an index of shards"):
        TensorFile(tmp_path)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("name", ["model.pt", "model.bin", "model.ckpt", "disguised.safetensors", "none"])
def test_a_pickle_is_refused_unread_with_a_remedy(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=r"(?s)pickle.*save_file\(torch\.load\(.*weights_only=True"):
        TensorFile(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_a_folder_of_pickles_is_refused_with_a_remedy(tmp_path: Path):
    torch.save({"w": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: a pickle"):
        TensorFile(tmp_path)


def test_torch_archives_are_refused_whatever_they_are_called(tmp_path: Path):
    torch.save({"w": torch.ones(1)}, tmp_path / "weights")
    with pytest.raises(ValueError, match="a pickle"):
        TensorFile(tmp_path / "weights")


def test_a_truncated_file_is_refused_when_opened(tmp_path: Path):
    path = tmp_path / "cut.safetensors"
    save_file({"w": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"cut\.safetensors: not a readable safetensors file"):
        TensorFile(path)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, b"\x08" + b"\0" * 7 + b"notjson!"])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "junk.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"junk\.safetensors: not a readable"):
        TensorFile(path)


def test_absent_paths_and_several_models_are_said(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        TensorFile(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"no \.safetensors file and no index"):
        TensorFile(tmp_path)
    for name in ("a", "b"):
        save_file({"w": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match=r"several models \(a.safetensors, b.safetensors\)"):
        TensorFile(tmp_path)


def test_an_unknown_tensor_names_file_and_neighbours(tmp_path: Path):
    write_tensors(tmp_path / "m.safetensors", [("encoder.weight", torch.ones(1))])
    file = TensorFile(tmp_path / "m.safetensors")
    assert "encoder.wieght" not in file
    for ask in (file.__getitem__, file.shape, file.dtype):
        with pytest.raises(KeyError, match=r"m\.safetensors: .*nearest: encoder\.weight"):
            ask("encoder.wieght")


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ([("w", torch.ones(2, dtype=torch.complex128))], "'w' has dtype torch.complex128"),
        ([("w", torch.ones(2).to_sparse())], "'w' is torch.sparse_coo"),
        ([("w", torch.ones(2, device="meta"))], "'w' is meta"),
        ([("w", torch.ones(2)), ("w", torch.ones(2))], "'w': the name is taken"),
        ([("__metadata__", torch.ones(2))], "'__metadata__': the name is taken"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_and_nothing_written(tmp_path: Path, entries, what: str):
    with pytest.raises(ValueError, match=rf"(?s)out\.safetensors: tensor {what}"):
        write_tensors(tmp_path / "out.safetensors", entries)
    assert os.listdir(tmp_path) == []


def test_metadata_must_be_text_and_the_folder_must_exist(tmp_path: Path):
    with pytest.raises(ValueError, match="text to text, but not under 'count'"):
        write_tensors(tmp_path / "m.safetensors", [], {"count": 3})  # type: ignore[dict-item]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_tensors(tmp_path / "absent" / "m.safetensors", [])


def test_gradients_and_conjugates_are_written_as_values(tmp_path: Path):
    w = torch.ones(2, requires_grad=True)
    z = torch.tensor([1 + 2j], dtype=torch.complex64).conj()
    write_tensors(tmp_path / "m.safetensors", [("w", w * 3), ("z", z)])
    found = load_file(tmp_path / "m.safetensors")
    assert found["w"].tolist() == [3.0, 3.0]
    assert found["z"].tolist() == [1 - 2j]


@pytest.mark.parametrize("start", [b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"])
def test_a_header_whose_length_begins_as_a_pickle_does_is_read(tmp_path, start):
    length = int.from_bytes(start, "little")
    path = tmp_path / "model.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    path.write_bytes(length.to_bytes(8, "little") + header + bytes(4))
    assert TensorFile(path)["a"].tolist() == [0.0]


def test_without_a_memory_map_every_dtype_reads_the_same(tmp_path: Path):
    path = tmp_path / "all.safetensors"
    write_tensors(path, TENSORS.items())
    mapped, read = TensorFile(path), TensorFile(path, memory_map=False)
    assert list(mapped) == list(read)
    assert all(same(read[name], mapped[name]) for name in mapped)
    assert all(same(read.part(name, 1, 3), mapped.part(name, 1, 3)) for name in ("zulu", "alpha", "flags"))
    assert read.files == (path,)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/a.safetensors", "x/b"], ["a", "b"]),
        (["a/model.safetensors", "b/model.safetensors.index.json"], ["a", "b"]),
        (["a/last/model.safetensors", "b/last/model.safetensors"], ["a", "b"]),
        (["a/1/m", "a/2/m", "b/1/m"], ["a/1", "2", "b/1"]),
        (["a/m", "b/m", "n"], ["a/m", "b/m", "n"]),
        (["m", "m.safetensors"], ["m", "m.safetensors"]),
        (["."], ["here"]),
        (["../here", "../there"], ["here", "there"]),
        ([".safetensors"], [".safetensors"]),
        ([], []),
    ],
)
def test_models_are_named_by_what_tells_their_paths_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: list[str], names: list[str]
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert named(paths) == dict(zip(names, paths, strict=True))
    assert list(named([Path(path).absolute() for path in paths])) == names
    with pytest.raises(ValueError, match="checkpoints repeat"):
        named(["a", "./b/../a"])


def test_threads_read_side_by_side(tmp_path: Path):
    path, numbers = tmp_path / "m.safetensors", torch.arange(1 << 20, dtype=torch.int32)
    write_tensors(path, [("flag", torch.ones(1, dtype=torch.bool)), ("w", numbers)])
    file = TensorFile(path, memory_map=False)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda i: file.part("w", i << 14, (i + 1) << 14), range(64)))
    assert torch.equal(torch.cat(parts), numbers)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2]},
        {"dtype": "F32", "shape": "two", "data_offsets": [0, 8]},
        [],
    ],
)
@pytest.mark.parametrize("memory_map", [True, False])
def test_a_header_that_does_not_fit_its_file_is_refused(tmp_path: Path, entry: object, memory_map: bool):
    header = json.dumps({"w": entry}).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(ValueError, match=r"m.safetensors: not a readable safetensors file"):
        TensorFile(path, memory_map=memory_map)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, b"\x08" + b"\0" * 7 + b"notjson!"])
def test_without_a_memory_map_the_same_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"m.safetensors: not a readable safetensors file"):
        TensorFile(path, memory_map=False)


def test_a_file_that_is_cut_after_it_was_opened_is_told(tmp_path: Path):
    path = tmp_path / "m.safetensors"
    write_tensors(path, [("w", torch.ones(100))])
    file = TensorFile(path, memory_map=False)
    os.truncate(path, path.stat().st_size - 4)
    assert file.part("w", 0, 99).sum() == 99
    with pytest.raises(ValueError, match="tensor 'w' ends before its length"):
        file["w"]
