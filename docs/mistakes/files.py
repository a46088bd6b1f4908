"""Files, folders and disks that do not fit."""

from pathlib import Path

import torch
from docs.mistakes.making import LIMIT, POWERLESS, command, mistake, without

import equipoise
from equipoise.core.tensorfile import write_tensors
from equipoise.merging import merge

MODELS, DISKS, TABLES = "Models and other files", "Folders and disks", "Tables of runs"
AVERAGE = ("merge", "--method", "average", "--base", "base.safetensors")


def model(name: str, **tensors: int) -> str:
    """A model on disk, of vectors of these lengths."""
    write_tensors(f"{name}.safetensors", [(key, torch.ones(size)) for key, size in tensors.items()])
    return f"{name}={name}.safetensors"


@mistake(MODELS)
def _() -> None:
    """A specification of a merge that is no YAML"""
    command("merge", "merge.yaml", "--out", "merged", files={"merge.yaml": "models: [a, b\n"})


@mistake(MODELS)
def _() -> None:
    """A key of a specification that does not exist"""
    content = "base: base\nmethod: ties\nmodles: {a: tuned-a}\n"
    command("merge", "merge.yaml", "--out", "merged", files={"merge.yaml": content})


@mistake(MODELS)
def _() -> None:
    """A model that is not there"""
    command("merge", "--method", "average", "--base", "base", "a=tuned-a", "--out", "merged")


@mistake(MODELS)
def _() -> None:
    """Models of other shapes"""
    model("base", weight=3)
    command(*AVERAGE, model("a", weight=3), model("b", weight=4), "--out", "merged")


@mistake(MODELS)
def _() -> None:
    """A model that lacks a tensor"""
    model("base", weight=3, bias=1)
    command(*AVERAGE, model("a", weight=3, bias=1), model("b", weight=3), "--out", "merged")


@mistake(MODELS)
def _() -> None:
    """An option that a method does not have"""
    model("base", weight=3)
    command(*AVERAGE, model("a", weight=3), "--set", "density=0.2", "--out", "merged")


@mistake(MODELS)
def _() -> None:
    """A pickle in place of safetensors, on the command line"""
    torch.save({"weight": torch.ones(3)}, "model.bin")
    command("merge", "--method", "average", "--base", "model.bin", "a=model.bin", "--out", "merged")


@mistake(MODELS)
def _() -> None:
    """A pickle in place of safetensors, in Python"""
    torch.save({"weight": torch.ones(3)}, "model.bin")
    merge({"a": "model.bin"}, "model.bin", method="average", out="merged")


@mistake(MODELS)
def _() -> None:
    """A file that is no bundle"""
    command("diagnose", "notes.txt", files={"notes.txt": "left and right disagree\n"})


@mistake(MODELS)
def _() -> None:
    """A front that is cut off"""
    Path("front.safetensors").write_bytes(b"\x10")
    equipoise.Front.load("front.safetensors")


@mistake(MODELS)
def _() -> None:
    """A model of transformers, which is not installed"""
    Path("bert").mkdir()
    Path("bert", "config.json").write_text("{}")
    content = (
        "import torch\n\ndef models():\n    return {'bert': 'bert'}\n\n"
        "def target():\n    return [(torch.ones(2, 3), torch.tensor([0, 1]))]\n"
    )
    words = ("select", "models", "--models", "mine.py:models", "--target", "mine.py:target", "--quiet")
    command(*words, files={"mine.py": content}, first=without("transformers"))


@mistake(DISKS)
def _() -> None:
    """A file that is there already"""
    command("init", "problem.py", after=["init", "problem.py"])


@mistake(DISKS)
def _() -> None:
    """A file in place of a folder"""
    Path("runs").write_text("")
    command("run", "digits-pairs", "--out", "runs/first", shown="touch runs")


@mistake(DISKS)
def _() -> None:
    """A folder that is not there"""
    command("init", "studies/problem.py")


@mistake(DISKS)
def _() -> None:
    """A folder that is read-only"""
    Path("studies").mkdir(mode=0o555)
    command("init", "studies/problem.py", first=POWERLESS, shown="mkdir -m 555 studies")


@mistake(DISKS)
def _() -> None:
    """No room for a file, by a limit that fails as a full disk does"""
    command("init", "problem.py", first=LIMIT.format(size=0), shown="ulimit -f 0")


@mistake(DISKS)
def _() -> None:
    """No room in the middle of a merge"""
    model("base", weight=3000)
    write_tensors("a.safetensors", [("weight", torch.arange(3000.0))])
    words = (*AVERAGE, "a=a.safetensors", "--out", "merged")
    command(*words, first=LIMIT.format(size=4096), shown="ulimit -f 8")


RUNS = "p.en,p.tr,loss.en,loss.tr\n0.5,0.5,2.3,1.8\n0.9,0.1,2.2,2.1\n0.1,0.9,2.6,1.7\n0.3,0.7,2.4,1.75\n"
"""A small table of runs."""


@mistake(TABLES)
def _() -> None:
    """A table of runs without losses"""
    command("scale", "compare", "runs.csv", files={"runs.csv": "p.en,p.tr\n0.5,0.5\n"})


@mistake(TABLES)
def _() -> None:
    """A cell that is no number"""
    command("scale", "compare", "runs.csv", files={"runs.csv": RUNS.replace("2.1", "high")})


@mistake(TABLES)
def _() -> None:
    """Ratios that are no mixture"""
    command("scale", "compare", "runs.csv", files={"runs.csv": RUNS.replace("0.9,0.1", "0.9,0.5")})


@mistake(TABLES)
def _() -> None:
    """Limits that no mixture meets"""
    command(
        "scale", "optimum", "runs.csv", "--law", "own-tokens", "--limits", "en=1.0", files={"runs.csv": RUNS}
    )
