"""`equipoise select models` as a user starts it: saved features, live modules, models of transformers."""

import csv
import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from tests.cli.command import equipoise
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model

from equipoise.cli.main import main
from equipoise.transferability import Sample, logme, ridgeprobe, weighted_tau

WIDTHS = {"narrow": 2, "middle": 8, "wide": 40}
MODELS = """
import torch
from torch import nn

def all_models():
    for name, width in {"narrow": 2, "middle": 8, "wide": 40}.items():
        torch.manual_seed(0)
        yield name, nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

def batches():
    from sklearn.datasets import load_digits
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x[:240] / 16, dtype=torch.float32), y[:240]
    return [(x[i : i + 100], y[i : i + 100]) for i in range(0, 240, 100)]

def never():
    def module():
        raise AssertionError("a model was built")

    return {name: module for name in ("narrow", "middle", "wide")}

def broken():
    raise RuntimeError("no disk left")

def nothing():
    return 3
"""


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return (x[:240] / 16).astype(np.float32), y[:240]


@pytest.fixture
def folder(tmp_path: Path, digits) -> Path:
    """Features of three widths, truths, static facts, the target, and a file of live models."""
    x, y = digits
    place = tmp_path / "features"
    place.mkdir()
    for name, width in WIDTHS.items():
        drawn = np.random.default_rng(width).standard_normal((64, width)).astype(np.float32)
        logits = np.maximum(x @ drawn, 0)[:, :2]
        said = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        content = {"features": np.maximum(x @ drawn, 0), "labels": y, "probabilities": said}
        np.savez(place / f"{name}.npz", **content, parameters=64 * width)
    (tmp_path / "truth.csv").write_text("model,accuracy\nnarrow,0.5\nmiddle,0.8\nwide,0.7\n")
    (tmp_path / "static.json").write_text(
        json.dumps(
            {
                "source accuracy": {"narrow": 0.3, "middle": 0.2, "wide": 0.1},
                "history": {"cars": {"narrow": 0.1, "middle": 0.3, "wide": 0.2}},
            }
        )
    )
    np.savez(tmp_path / "target.npz", inputs=x, labels=y)
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


def test_saved_features_give_a_table_a_picture_a_report_and_json(folder: Path, digits):
    line = ["--features", "features", "--truth", "truth.csv", "--static", "static.json", "--bootstrap", "4"]
    said = equipoise("select", "models", *line, "--out", "out", folder=folder)
    assert said.stdout.startswith("Start from wide: LogME puts it first of 3 models, and in 100% of 4 half-")
    assert "the ranking by static rank would have said middle." in said.stdout
    assert "middle is the best, and wide loses 0.1 to it" in said.stdout
    assert said.stdout.endswith(f"report: {Path('out') / 'report.html'}\n")
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "ranking.json",
        "ranking.svg",
        "report.html",
    ]
    told = json.loads((folder / "out" / "ranking.json").read_text())
    assert told["order"] == ["wide", "middle", "narrow"]
    with np.load(folder / "features" / "wide.npz") as saved:
        assert told["columns"]["LogME"]["values"]["wide"] == pytest.approx(
            logme(saved["features"], digits[1])
        )
    truth = {row["model"]: float(row["accuracy"]) for row in csv.DictReader((folder / "truth.csv").open())}
    for name, column in told["columns"].items():
        if all(value is not None for value in column["values"].values()):
            assert column["tau"] == weighted_tau(column["values"], truth), name
    assert {"parameters", "source accuracy", "static rank", "LEEP", "ETran"} <= told["columns"].keys()
    assert told["columns"]["static rank"]["order"] == ["middle", "wide", "narrow"]
    ElementTree.parse(folder / "out" / "ranking.svg")


def test_json_on_the_line_and_chosen_scores(folder: Path):
    line = ["--features", "features", "--scores", "logme,nce", "--by", "nce", "--json", "--bootstrap", "2"]
    said = equipoise("select", "models", *line, "--quiet", folder=folder)
    assert said.stderr == ""
    told = json.loads(said.stdout)
    assert told["by"] == "NCE"
    kinds = {name: column["kind"] for name, column in told["columns"].items()}
    assert [name for name, kind in kinds.items() if kind == "score"] == ["LogME", "NCE"]
    assert [n for n, kind in kinds.items() if kind == "probe"] == ["KNN", "RidgeProbe", "LogisticProbe"]
    again = equipoise("select", "models", *line, "--quiet", folder=folder).stdout
    assert [json.loads(again)[k] for k in ("order", "sentence")] == [told[k] for k in ("order", "sentence")]


@pytest.mark.parametrize("target", ["target.npz", "models.py:batches"])
def test_live_modules_from_a_users_file(folder: Path, target: str):
    line = ["--models", "models.py:all_models", "--target", target, "--bootstrap", "2", "--out", "out"]
    said = equipoise("select", "models", *line, "--scores", "logme,leep,gbc", folder=folder)
    assert "features of middle" in said.stderr
    told = json.loads((folder / "out" / "ranking.json").read_text())
    assert set(told["order"]) == set(WIDTHS)
    assert told["samples"] == 240
    assert told["columns"]["parameters"]["values"]["wide"] == 64 * 40 + 40 + 400 + 10
    assert told["columns"]["LEEP"]["values"]["narrow"] < 0
    assert sorted(p.name for p in (folder / "out" / "features").iterdir()) == [
        "middle.npz",
        "narrow.npz",
        "wide.npz",
    ]
    again = equipoise(
        "select", "models", "--features", "out/features", "--json", "--bootstrap", "0", folder=folder
    )
    assert json.loads(again.stdout)["columns"]["LogME"]["values"] == told["columns"]["LogME"]["values"]


def test_facts_of_files_are_columns_where_they_are_named(folder: Path):
    line = ["--features", "features", "--scores", "hscore:shrinkage=true", "--bootstrap", "0", "--json"]
    for path in (folder / "features").iterdir():
        with np.load(path) as held:
            np.savez(path, **held, epoch=1)
    plain, named = (
        json.loads(equipoise("select", "models", *line, *more, folder=folder).stdout)["columns"]
        for more in ([], ["--facts", "epoch"])
    )
    assert "HScore:shrinkage=true" in plain
    assert "parameters" in plain
    assert "epoch" not in plain
    assert "epoch" in named
    assert "parameters" not in named


@pytest.mark.parametrize("source", ["saved", "live"])
def test_labels_are_numbers_where_that_is_said(folder: Path, digits, source: str):
    """Digits as ratings from 0 to 9: scores of regression alone have values, as with `numbers=True`."""
    x, y = digits
    np.savez(folder / "rated.npz", inputs=x, labels=y.astype(float))
    given = ["--features", "features"] if source == "saved" else ["--models", "models.py:all_models"]
    line = [*given, "--target", "rated.npz", "--scores", "logme,gbc", "--bootstrap", "2", "--json", "--quiet"]
    told = json.loads(equipoise("select", "models", *line, "--numbers", folder=folder).stdout)["columns"]
    assert set(told["GBC"]["values"].values()) <= {None}
    assert all(np.isfinite(told["LogME"]["values"][name]) for name in WIDTHS)
    if source == "live":
        return
    with np.load(folder / "features" / "wide.npz") as saved:
        sample = Sample(saved["features"], y.astype(float), numbers=True)
    assert told["LogME"]["values"]["wide"] == pytest.approx(logme(sample))
    assert told["RidgeProbe"]["values"]["wide"] == pytest.approx(ridgeprobe(sample))
    refused = equipoise("select", "models", *line, folder=folder, code=1)
    assert "whole floating-point numbers of 10 values" in " ".join(refused.stderr.split())
    assert "--numbers" in refused.stderr


def test_targets_in_files_by_the_names_of_the_models_arguments(tmp_path: Path):
    from equipoise.cli.selectinputs import batches_of

    ids, labels = torch.arange(12).reshape(6, 2), torch.arange(6) % 2
    content = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    save_file(content, tmp_path / "text.safetensors")
    (first, y), *rest = batches_of(str(tmp_path / "text.safetensors"), 4)()
    assert set(first) == {"input_ids", "attention_mask"}
    assert first["input_ids"].tolist() == ids[:4].tolist()
    assert y.tolist() == [0, 1, 0, 1]
    assert len(rest) == 1
    save_file({"inputs": torch.ones(3, 2).bfloat16(), "labels": labels[:3]}, tmp_path / "half.safetensors")
    ((inputs, _),) = batches_of(str(tmp_path / "half.safetensors"), 4)()
    assert inputs.tolist() == [[1.0, 1.0]] * 3


def test_a_named_layer(folder: Path):
    line = ["--models", "models.py:all_models", "--target", "target.npz", "--scores", "logme", "--json"]
    inputs, outputs = (
        json.loads(equipoise("select", "models", *line, "--bootstrap", "0", *layer, folder=folder).stdout)[
            "columns"
        ]["LogME"]["values"]
        for layer in ([], ["--layer", "2"])
    )
    assert inputs != outputs


def test_models_that_transformers_saved(tmp_path: Path):
    torch.manual_seed(0)
    bert = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    BertModel(bert).save_pretrained(tmp_path / "zoo" / "tiny-bert")
    gpt = GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    GPT2Model(gpt).save_pretrained(tmp_path / "zoo" / "tiny-gpt2")
    (tmp_path / "text.py").write_text(
        "import torch\n"
        "def batches():\n"
        "    draw = torch.Generator().manual_seed(0)\n"
        "    for _ in range(3):\n"
        "        y = torch.arange(20) % 2\n"
        "        ids = torch.randint(0, 20, (20, 12), generator=draw) + 20 * y[:, None]\n"
        "        yield {'input_ids': ids, 'attention_mask': torch.ones_like(ids), 'labels': y}\n"
    )
    line = ["--models", "zoo", "--target", "text.py:batches", "--bootstrap", "2", "--json"]
    told = json.loads(equipoise("select", "models", *line, folder=tmp_path).stdout)
    assert told["samples"] == 60
    assert set(told["order"]) == {"tiny-bert", "tiny-gpt2"}
    # The classes lie in two halves of the vocabulary; random weights of GPT-2 keep the mean of the tokens.
    assert told["columns"]["RidgeProbe"]["values"]["tiny-gpt2"] > 0.95
    assert told["columns"]["RidgeProbe"]["values"]["tiny-bert"] > 0.6


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "give either --features DIR or --models"),
        (["--features", "nowhere"], 1, "there is no folder nowhere"),
        (["--features", "features", "--scores", "logmee"], 2, "no score of one model is called 'logmee'"),
        (["--features", "features", "--layer", "x"], 2, "--layer is for --models"),
        (
            ["--features", "features", "--target", "gone.npz"],
            2,
            "--target: gone.npz is no file, and no function",
        ),
        (["--features", "features", "--target", "models.py:labels"], 2, "models.py has no function labels"),
        (["--features", "features", "--truth", "bad.csv"], 1, "bad.csv, line 2: 'wide,good' is not a model"),
        (
            ["--features", "features", "--static", "bad.json"],
            1,
            "parameters: wide is 'big', which is no number",
        ),
        (["--features", "features", "--truth", "nan.csv"], 1, "nan.csv, line 1: 'wide,nan' is not a model"),
        (
            ["--features", "features", "--scores", "hscore:shrink=true"],
            2,
            "no option of HScore is called 'shrink'",
        ),
        # What is wrong is told before a model is run.
        *(
            (["--models", "models.py:never", "--target", "target.npz", *given], 1, words)
            for given, words in (
                (["--by", "leap"], "no column is called 'leap'"),
                (["--truth", "lost.csv"], "truth: no model is called 'lost'"),
                (["--static", "bad.json"], "parameters: wide is 'big', which is no number"),
                (["--static", "lost.json"], "static 'size': no model is called 'lost'"),
            )
        ),
        (
            ["--models", "models.py:never", "--target", "masked.npz"],
            1,
            "masked.npz holds an attention_mask beside inputs",
        ),
        (["--features", "features", "--by", "leap"], 1, "no column is called 'leap'; nearest: LEEP"),
        (["--models", "models.py:all_models"], 2, "name it with --target"),
        (["--models", "models.py:broken", "--target", "target.npz"], 1, "RuntimeError: no disk left"),
        (["--models", "models.py:nothing", "--target", "target.npz"], 1, "models.py:nothing gave int"),
        (["--models", "gone.py:x", "--target", "target.npz"], 2, "--models: there is no file gone.py"),
        (
            ["--models", "features", "--target", "target.npz"],
            1,
            "holds no folders of models with a config.json",
        ),
        (["--models", "models.py:all_models", "--target", "models.py:nothing"], 1, "gave int; give batches"),
        (
            ["--models", "models.py:all_models", "--target", "bare.npz"],
            1,
            "bare.npz holds labels, but no inputs",
        ),
        (
            ["--models", "models.py:all_models", "--target", "target.npz", "--layer", "7"],
            1,
            "narrow: no layer is called '7'",
        ),
    ],
)
def test_bad_input_is_named(folder: Path, monkeypatch, capsys, arguments: list[str], code: int, words: str):
    (folder / "bad.csv").write_text("model,accuracy\nwide,good\n")
    (folder / "bad.json").write_text('{"parameters": {"wide": "big"}}')
    np.savez(folder / "bare.npz", labels=np.arange(3))
    np.savez(
        folder / "masked.npz", inputs=np.ones((3, 2)), attention_mask=np.ones((3, 2)), labels=np.arange(3)
    )
    (folder / "nan.csv").write_text("wide,nan\nnarrow,0.5\n")
    (folder / "lost.csv").write_text("lost,0.5\n")
    (folder / "lost.json").write_text('{"size": {"lost": 3}}')
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.path", [*sys.path])
    with pytest.raises(SystemExit) as left:
        main(["select", "models", "--bootstrap", "0", *arguments])
    assert left.value.code == code
    said = capsys.readouterr()
    assert words in " ".join(said.err.replace("│", " ").split())
    assert said.out == ""
