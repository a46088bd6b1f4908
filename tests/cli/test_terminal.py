"""Terminals as they are: narrow, without colour, with completion."""

import os
import pty
import re
import subprocess
import sys

import pytest
from tests.cli.command import SOURCE, equipoise

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
    "arguments", [("list", "pareto"), ("show", "UPGrad"), ("doctor",), ("run", "--help")], ids=" ".join
)
def test_no_escape_codes_where_none_are_wanted(arguments, variables):
    assert ESCAPE not in on_a_terminal(*arguments, **variables)


@pytest.mark.parametrize("arguments", [("list", "aggregation"), ("list", "merging")], ids=" ".join)
def test_nothing_is_wider_than_a_narrow_terminal(arguments):
    assert max(map(len, on_a_terminal(*arguments).splitlines())) <= 40


def test_a_study_on_a_narrow_terminal_without_colour(tmp_path):
    said = on_a_terminal(
        "run", "digits-pairs", "--rules", "Mean", "--seeds", "1", "--epochs", "1", "--learning-rates", "0.1",
        "--set", "pairs=200", "--set", "judged=100", "--workers", "1", "--out", str(tmp_path / "run"),
        NO_COLOR="1",
    )  # fmt: skip
    assert not re.search(r"\x1b\[[0-9;]*m", said)


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
    said = equipoise("--show-completion", shell).stdout
    assert "_EQUIPOISE_COMPLETE" in said
