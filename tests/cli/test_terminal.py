"""Terminals as they are: narrow, without colour, with completion."""

import os
import pty
import re
import subprocess
import sys

import pytest
import torch
from tests.cli.command import SOURCE, equipoise

from equipoise.core.tensorfile import write_tensors

ESCAPE = "\x1b"


def on_a_terminal(*arguments, columns=40, **environment):
    """What the command writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "equipoise.cli.main", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": str(columns), "LINES": "40", **environment},
    )
    os.close(theirs)
    found = b""
    try:
        while part := os.read(ours, 65536):
            found += part
    except OSError:  # the other end has closed
        pass
    os.close(ours)
    assert process.wait() == 0, found.decode()
    return found.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
@pytest.mark.parametrize(
    "arguments",
    [("list", "pareto"), ("show", "UPGrad"), ("doctor",), ("run", "--help"), ("merge", "--inspect")],
    ids=" ".join,
)
def test_no_escape_codes_where_none_are_wanted(arguments, variables, tmp_path):
    if "--inspect" in arguments:
        arguments += ("--base", model(tmp_path / "base.safetensors"), model(tmp_path / "a.safetensors", 1))
    assert ESCAPE not in on_a_terminal(*arguments, **variables)


def model(path, shift=0):
    write_tensors(path, [("layers.0.weight", torch.arange(6.0).view(2, 3) + shift)])
    return str(path)


@pytest.mark.parametrize("arguments", [("list", "aggregation"), ("list", "merging")], ids=" ".join)
def test_nothing_is_wider_than_a_narrow_terminal(arguments):
    assert max(map(len, on_a_terminal(*arguments).splitlines())) <= 40


SMALL = ("digits-pairs", "--rules", "Mean", "--learning-rates", "0.1", "--set", "pairs=200", "--workers", "1")
STUDY = ("run", *SMALL, "--seeds", "1", "--epochs", "1")
ADVICE = ("advise", *SMALL, "--seeds", "2", "--steps", "5")


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [(STUDY, {"NO_COLOR": "1"}), (ADVICE, {"TERM": "dumb"})],
    ids=["run, NO_COLOR", "advise, dumb"],
)
def test_progress_without_colour(arguments, variables, tmp_path):
    """Where the cursor may move a bar does so without a colour; on a dumb terminal nothing moves."""
    said = on_a_terminal(*arguments, "--out", str(tmp_path / "run"), **variables)
    assert not re.search(r"\x1b\[[0-9;]*m", said)
    assert "TERM" not in variables or ESCAPE not in said
    assert f"report: {tmp_path / 'run'}" in said


@pytest.mark.parametrize("verb", ["run", "federate", "select"])
def test_help_shows_defaults_as_they_are(verb):
    said = equipoise(verb, "--help", environment={"COLUMNS": "100"}).stdout
    assert "[default: " in said
    assert "\\" not in said


def completed(*words, shell="bash"):
    """What a shell is offered for the last word."""
    line = " ".join(("equipoise", *words))
    variables = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words))},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "equipoise.cli.main"],
        env={
            **os.environ,
            "PYTHONPATH": str(SOURCE),
            "_EQUIPOISE_COMPLETE": f"complete_{shell}",
            **variables,
        },
        capture_output=True,
        text=True,
    )
    assert "torch" not in {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    return run.stdout


def test_verbs_options_and_names_are_completed_without_torch():
    assert "federate" in completed("fed").split()
    assert "--rules" in completed("run", "digits-pairs", "--ru").split()
    assert completed("show", "UPG").split() == ["UPGrad"]
    assert "digits-pairs" in completed("run", "dig").split()
    assert completed("run", "digits-pairs", "--rules", "Mean,UPG").split() == ["Mean,UPGrad"]
    assert "digits-clients" in completed("federate", "dig").split()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell):
    assert "UPGrad" in completed("show", "UPG", shell=shell)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_shown(shell):
    """What `--show-completion` prints, which asks the parent process which shell that is; a test has none."""
    said = equipoise(environment={"_EQUIPOISE_COMPLETE": f"source_{shell}"}).stdout
    assert "_EQUIPOISE_COMPLETE" in said
