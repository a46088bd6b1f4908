"""A merged folder: whole or not at all, the same bytes after a kill, with what it was made of and how."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import equipoise
from equipoise.core.errors import NonFiniteDirection
from equipoise.core.tensorfile import TensorFile
from equipoise.merging import DARE, Average, TaskArithmetic, merge
from equipoise.merging.matching import OnMissing
from equipoise.merging.merge import carry_out, prepare
from equipoise.merging.provenance import digest
from equipoise.merging.writer import ModelWriter

DRAW = torch.Generator().manual_seed(1)


def folder(path, dtype=torch.float32, config=None, files=(), rows=6):
    path.mkdir()
    shapes = {"embed_tokens.weight": (rows, 4), "layers.0.w": (4, 4), "layers.1.w": (4, 4)}
    tensors = {name: torch.randn(shape, generator=DRAW).to(dtype) for name, shape in shapes.items()}
    save_file(tensors, path / "model.safetensors")
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    for name in files:
        (path / name).write_text(f"{name} of {path.name}")
    return path


def content(path):
    return {one.name: one.read_bytes() for one in sorted(path.iterdir())}


def test_configs_and_tokenizer_of_the_base_go_along_but_no_code(tmp_path):
    config = {"model_type": "llama", "torch_dtype": "float32", "vocab_size": 6}
    files = [
        "tokenizer.json",
        "tokenizer_config.json",
        "merges.txt",
        "spiece.model",
        "generation_config.json",
    ]
    (tmp_path / "x").mkdir()
    base = folder(
        tmp_path / "base", config=config, files=[*files[1:], "modeling_own.py", "training_args.bin"]
    )
    one = folder(tmp_path / "one", config=config, files=files)
    out = tmp_path / "out"
    found = prepare([one], base, method=TaskArithmetic(), dtype=torch.bfloat16)
    carry_out(found, out, config={"num_hidden_layers": 2})
    assert {path.name for path in out.iterdir()} == {
        *files[1:],
        "config.json",
        "model.safetensors",
        "README.md",
    }
    assert (out / "merges.txt").read_text() == "merges.txt of base"
    written = json.loads((out / "config.json").read_text())
    assert written == {**config, "torch_dtype": "bfloat16", "num_hidden_layers": 2}
    assert any("code is not copied (modeling_own.py)" in note for note in found.notes)
    assert "modeling_own.py" in (out / "README.md").read_text()


def test_the_tokenizer_follows_the_rows(tmp_path):
    config = {"vocab_size": 6, "dtype": "float32"}
    base = folder(tmp_path / "base", config=config, files=["tokenizer_config.json"])
    one = folder(tmp_path / "one", config=config, files=["tokenizer_config.json"], rows=8)
    merge([one], base, method=TaskArithmetic(), vocab="union", out=tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer_config.json").read_text() == "tokenizer_config.json of one"
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == {"vocab_size": 8, "dtype": "float32"}


def test_configs_within_a_config_are_brought_up_to_date_too(tmp_path):
    text = {"vocab_size": 6, "torch_dtype": "float32"}
    config = {"text_config": text, "vision_config": {"depth": 6, "dtype": "float32"}, "dtype": "float32"}
    base, one = folder(tmp_path / "base", config=config), folder(tmp_path / "one", rows=8)
    merge([one], base, method=TaskArithmetic(), vocab="union", dtype=torch.bfloat16, out=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == {
        "text_config": {"vocab_size": 8, "torch_dtype": "bfloat16"},
        "vision_config": {"depth": 6, "dtype": "bfloat16"},
        "dtype": "bfloat16",
    }


def test_a_head_of_its_own_is_no_longer_called_tied(tmp_path):
    config = {"tie_word_embeddings": True, "torch_dtype": "float32", "decoder": {"tie_word_embeddings": True}}
    base, one = folder(tmp_path / "base", config=config), folder(tmp_path / "one")
    tensors = load_file(one / "model.safetensors")
    save_file({**tensors, "lm_head.weight": torch.ones(6, 4)}, one / "model.safetensors")
    policies: dict[OnMissing, bool] = {"skip": False, "base": True}
    for policy, still in policies.items():
        out = tmp_path / f"out-{policy}"
        merge([one], base, method=Average(), on_missing=policy, out=out)
        assert ("lm_head.weight" in TensorFile(out)) is not still
        assert json.loads((out / "config.json").read_text()) == {
            "tie_word_embeddings": still,
            "torch_dtype": "float32",
            "decoder": {"tie_word_embeddings": still},
        }


def test_the_header_and_the_card_say_what_was_merged(tmp_path):
    base, one, two = (folder(tmp_path / name, config={}) for name in ("base", "one", "two"))
    out = tmp_path / "out"
    merge([one, two], base, method=TaskArithmetic(weight=[0.25, 0.5], scale=0.7), out=out, hashes="whole")
    with safe_open(out / "model.safetensors", "pt") as file:
        said = file.metadata()
    assert said["format"] == "pt"
    assert said["equipoise"] == equipoise.__version__
    (method,) = json.loads(said["method"])
    options = {"weight": {"one": 0.25, "two": 0.5}, "scale": 0.7, "normalize": False}
    assert method == {"name": "TaskArithmetic", "options": options, "tensors": 3}
    first = json.loads(said["models"])[0]
    assert first["name"] == first["model"] == "one"
    path = one / "model.safetensors"
    assert first["files"] == [
        {"file": "model.safetensors", "bytes": path.stat().st_size, "sha256": digest(path, "whole")}
    ]
    assert str(tmp_path) not in json.dumps(said)
    card = (out / "README.md").read_text()
    assert card.startswith("---\ntags:\n- merge\n- equipoise\n")
    assert "*Editing Models with Task Arithmetic*, ICLR 2023, arXiv:2212.04089" in card
    assert first["files"][0]["sha256"] in card


def test_models_are_told_by_their_names_and_not_by_where_they_lie(tmp_path, monkeypatch):
    """A path "." is not every full stop of a note, and one of two parts is no id on the Hub."""
    base = folder(tmp_path / "base", files=["modeling_own.py"])
    for name in ("runs", "runs/a", "runs/b"):
        folder(tmp_path / name, torch.bfloat16)
    monkeypatch.chdir(base)
    parts = [f"../runs/{name}/model.safetensors" for name in "ab"]
    merge(parts, ".", method=TaskArithmetic(), out=tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base: code is not copied (modeling_own.py); copy it by hand" in card
    assert "(as 'embed_tokens.weight') of mixed dtypes" in card
    assert "(a: bfloat16, b: bfloat16, base: float32)" in card
    assert "base_model" not in card
    monkeypatch.chdir(tmp_path)
    merge([path[3:] for path in parts], "base", method=TaskArithmetic(), out="again")
    merge([tmp_path / path[3:] for path in parts], base, method=TaskArithmetic(), out="whole")
    for name in ("out", "again", "whole"):
        assert content(tmp_path / name)["model.safetensors"] == content(tmp_path / "out")["model.safetensors"]
        assert str(tmp_path) not in (tmp_path / name / "README.md").read_text()


def test_random_methods_draw_the_same_however_a_path_is_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        folder(tmp_path / name)
    base = {name: torch.zeros_like(one) for name, one in TensorFile(tmp_path / "a").items()}
    paths = [f"{name}/model.safetensors" for name in "ab"]
    one, two = (merge(given, base, method=DARE()) for given in (paths, [tmp_path / path for path in paths]))
    assert all(torch.equal(one[name], two[name]) for name in base)


def test_what_lies_in_the_cache_of_the_hub_is_told_by_its_id(tmp_path):
    (tmp_path / "models--org--one" / "snapshots").mkdir(parents=True)
    one = folder(tmp_path / "models--org--one" / "snapshots" / "0a1b")
    merge([one], folder(tmp_path / "base"), method=TaskArithmetic(), out=tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith('---\nbase_model:\n- "org/one"\ntags:')
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["models"])[0]["model"] == "org/one"


def test_a_file_of_torch_is_hashed_as_others_are(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(3)}, path)
    merge([path], method=Average(), pickles=True, out=tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        (told,) = json.loads(file.metadata()["models"])
    right = {"file": "a.pt", "bytes": path.stat().st_size, "sha256": digest(path)}
    assert told == {"name": "a.pt", "model": "a.pt", "files": [right]}
    assert "in memory" not in (tmp_path / "out" / "README.md").read_text()


def test_a_tensor_in_two_pieces_counts_once(tmp_path):
    base, one, two = (folder(tmp_path / name, rows=n) for name, n in (("base", 9), ("one", 6), ("two", 8)))
    merge([one, two], base, method=TaskArithmetic(), vocab="union", out=tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["method"])[0]["tensors"] == 3


def test_a_hash_of_samples_tells_models_of_one_architecture_apart(tmp_path):
    one, two = folder(tmp_path / "one"), folder(tmp_path / "two")
    files = [path / "model.safetensors" for path in (one, two)]
    assert digest(files[0]) != digest(files[1])
    copy = shutil.copy(files[0], tmp_path / "copy.safetensors")
    assert digest(files[0]) == digest(Path(copy))
    longer = files[0].read_bytes() + b" "
    Path(copy).write_bytes(longer)
    assert digest(files[0]) != digest(Path(copy))


def test_a_disk_that_is_too_small_is_told_first(tmp_path):
    vast = {"w": torch.zeros(1).expand(1 << 50)}
    with pytest.raises(OSError, match=r"out: the merged model takes 4,503,599,627,370,496 bytes, [\d,]+ are"):
        merge([vast], method=Average(), out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    one, out = folder(tmp_path / "one"), folder(tmp_path / "out")
    before = content(out)
    with pytest.raises(FileExistsError, match="exists already"):
        merge([one], method=Average(), out=out)
    assert content(out) == before


@pytest.mark.parametrize("out", ["out", "inner/../out", "link"])
def test_two_writers_of_one_folder_do_not_meet(tmp_path, monkeypatch, out):
    plan = prepare([folder(tmp_path / "one")], method=Average())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    first, second = ModelWriter(tmp_path / "out", plan), ModelWriter(Path(out), plan)
    with first, pytest.raises(FileExistsError, match="being written"):
        second.__enter__()
    assert list(TensorFile(tmp_path / "out")) == list(TensorFile(tmp_path / "one"))
    assert {path.name for path in tmp_path.iterdir()} == {"one", "inner", "link", "out"}


SECOND = """
import sys
from equipoise.merging import merge
merge([sys.argv[1]], method="average", out=sys.argv[2])
"""


def test_a_second_process_leaves_the_first_alone(tmp_path):
    plan = prepare([folder(tmp_path / "one")], method=Average())
    order = [sys.executable, "-c", SECOND, str(tmp_path / "one"), str(tmp_path / "out")]
    with ModelWriter(tmp_path / "out", plan):
        done = subprocess.run(order, capture_output=True, text=True)
        assert "out is being written already" in done.stderr
    assert list(TensorFile(tmp_path / "out")) == list(TensorFile(tmp_path / "one"))
    assert {path.name for path in tmp_path.iterdir()} == {"one", "out"}


def test_a_folder_that_filled_up_meanwhile_is_left_alone(tmp_path):
    plan = prepare([folder(tmp_path / "one")], method=Average())
    late = ModelWriter(tmp_path / "out", plan)
    merge([tmp_path / "one"], method=Average(), out=tmp_path / "out")
    with pytest.raises(FileExistsError, match="exists already"):
        late.__enter__()
    assert {path.name for path in tmp_path.iterdir()} == {"one", "out"}


def test_an_empty_folder_is_filled_also_through_a_link(tmp_path):
    one = folder(tmp_path / "one")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    merge([one], method=Average(), out=tmp_path / "link")
    assert list(TensorFile(tmp_path / "real")) == list(TensorFile(one))
    assert (tmp_path / "link").is_symlink()


def test_where_nothing_can_be_written_is_told_before_anything_is_read(tmp_path, monkeypatch):
    bad = {"w": torch.tensor([float("nan")])}
    found = prepare([bad], method=Average())
    full = folder(tmp_path / "full")
    with pytest.raises(FileExistsError, match="exists already"):
        carry_out(found, full, check=True)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(FileExistsError, match=r"^\. is the working folder"):
        carry_out(found, ".", check=True)
    with pytest.raises(NotADirectoryError, match=r"model.safetensors is a file"):
        carry_out(found, full / "model.safetensors" / "out", check=True)
    with pytest.raises(FileExistsError, match="exists already"):
        merge([tmp_path / "absent"], method=Average(), out=full)


def test_an_error_leaves_no_parents_that_were_not_there(tmp_path):
    (tmp_path / "there").mkdir()
    bad = {"w": torch.tensor([float("nan")])}
    with pytest.raises(NonFiniteDirection):
        merge([bad], method=Average(), out=tmp_path / "there" / "one" / "two" / "out")
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


SLOW = """
import sys, time
from equipoise.merging import TaskArithmetic, merge
folder, pause = sys.argv[1], float(sys.argv[2])
def told(done):
    print(done, flush=True)
    time.sleep(pause)
merge([f"{folder}/a", f"{folder}/b"], f"{folder}/base", method=TaskArithmetic(scale=0.4),
      out=f"{folder}/out", shard_size=120, threads=1, progress=told)
"""


def test_a_killed_merge_leaves_nothing_under_the_name_and_repeats_to_the_same_bytes(tmp_path):
    for name in ("base", "a", "b"):
        folder(tmp_path / name, config={"vocab_size": 6}, files=["tokenizer.model"])
    order = [sys.executable, "-c", SLOW, str(tmp_path)]
    process = subprocess.Popen([*order, "60"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "96\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "out").exists()
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert left == [".out.part"]
    assert {path.name for path in (tmp_path / ".out.part").iterdir()} == {"lock", "model"}
    subprocess.run([*order, "0"], check=True, stdout=subprocess.DEVNULL)
    repeated = content(tmp_path / "out")
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    shutil.rmtree(tmp_path / "out")
    subprocess.run([*order, "0"], check=True, stdout=subprocess.DEVNULL)
    assert content(tmp_path / "out") == repeated
    assert len([name for name in repeated if name.endswith(".safetensors")]) == 3


@pytest.mark.parametrize("reading", ["map", "read"])
def test_both_ways_of_reading_give_the_same_bytes(tmp_path, reading):
    paths = [folder(tmp_path / name, torch.bfloat16) for name in ("a", "b", "base")]
    merge(paths[:2], paths[2], method=TaskArithmetic(), out=tmp_path / "out", reading=reading)
    merged = merge(
        [load_file(path / "model.safetensors") for path in paths[:2]],
        load_file(paths[2] / "model.safetensors"),
        method=TaskArithmetic(),
    )
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in merged.items())
