"""Every experiment's mechanics, and the record of verdicts that they share."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "evidence").glob("[a-z]*.py"))


def load(name: str):
    """A module of evidence/, which is a folder of scripts and no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "evidence" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


shared = load("_experiment")


def small(differences: list[float]):
    """An experiment of one table and one claim."""

    def experiment(fast: bool):
        rows = [("ours", shared.spread([0.1, 0.2, 0.3])), ("theirs", 0.123456)]
        yield shared.Table("errors", ("method", "error"), rows)
        advantages = {"saved": shared.interval(differences)}
        yield shared.Claim("a", "ours is better", *shared.verdict(advantages))

    return experiment


def call(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(map(str, (ROOT / "evidence", ROOT / "src")))
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )


def record(script: Path) -> dict[str, str]:
    """The literal RECORDED of a script."""
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        match node:
            case ast.AnnAssign(target=ast.Name(id="RECORDED"), value=ast.expr() as value):
                return ast.literal_eval(value)
    raise AssertionError(f"{script.name} has no RECORDED")


@pytest.mark.parametrize("name", ["coherence", "qffl"])
def test_the_mechanics_claim_no_verdict_and_keep_nothing(name: str):
    """Of two; `make evidence EVIDENCE=--fast` runs those of all."""
    results = {path: path.read_bytes() for path in (ROOT / "evidence" / "results").glob("*.json")}
    done = call(ROOT / "evidence" / f"{name}.py", "--fast")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mechanics only" in done.stdout
    assert not re.search("holds|fails|inconclusive", done.stdout, re.IGNORECASE)
    assert results == {path: path.read_bytes() for path in (ROOT / "evidence" / "results").glob("*.json")}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_kept_results_are_those_on_record(script: Path):
    kept = json.loads((ROOT / "evidence" / "results" / f"{script.stem}.json").read_text(encoding="utf-8"))
    assert kept["name"] == script.stem
    assert kept["wall_seconds"] > 0
    assert {"torch", "python", "equipoise"} <= set(kept["versions"])
    assert {claim["key"]: claim["verdict"] for claim in kept["claims"]} == record(script)
    assert all(claim["seen"] for claim in kept["claims"])


@pytest.mark.parametrize(
    ("differences", "recorded", "code"),
    [
        ([0.1, 0.2, 0.15], {"a": "holds"}, 0),
        ([-0.1, -0.2, -0.15], {"a": "fails"}, 0),
        ([-0.1, 0.2, 0.1], {"a": "inconclusive"}, 0),
        ([0.1, 0.2, 0.15], {"a": "fails"}, 1),
        ([0.1, 0.2, 0.15], {}, 1),
        ([0.1, 0.2, 0.15], {"a": "holds", "b": "holds"}, 1),
    ],
)
def test_a_full_run_exits_non_zero_only_where_it_departs_from_the_record(
    tmp_path, monkeypatch, capsys, differences, recorded, code
):
    monkeypatch.setattr(sys, "argv", ["small.py"])
    assert shared.run(str(tmp_path / "small.py"), small(differences), recorded) == code
    printed = capsys.readouterr().out
    assert "0.200 ± 0.100" in printed
    kept = json.loads((tmp_path / "results" / "small.json").read_text(encoding="utf-8"))
    assert kept["claims"][0]["verdict"].upper() in printed


def test_a_fast_run_keeps_nothing_and_notices_a_claim_that_the_record_lacks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["small.py", "--fast"])
    assert shared.run(str(tmp_path / "small.py"), small([0.1, 0.2]), {"z": "holds"}) == 1
    assert shared.run(str(tmp_path / "small.py"), small([0.1, 0.2]), {"a": "holds"}) == 0
    assert "HOLDS" not in capsys.readouterr().out
    monkeypatch.setattr(shared, "MOST_FAST", 0.0)
    assert shared.run(str(tmp_path / "small.py"), small([0.1, 0.2]), {"a": "holds"}) == 1
    assert "make the fast setting smaller" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()
