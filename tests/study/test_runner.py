"""A study as a whole: parallel, killed, resumed, refused. What is killed is a real process."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.study.command import TINY, children, done, finish, gone, kill, metrics, start, wait_until

from equipoise.study.mixtures import mixtures
from equipoise.study.scoring import choices
from equipoise.study.store import load_run

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
HALF = "rule-PCGrad-lr0.2-s1"
PLANNED = 24


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The small study, run by one worker without a stop: its folder and what the command printed."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    return folder, *finish(folder, "--workers", "1")


@pytest.fixture(scope="module")
def second(reference: tuple[Path, str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study by two workers, in a folder where an earlier run left a trial half written."""
    folder = tmp_path_factory.mktemp("second") / "run"
    half = folder / "trials" / HALF
    half.mkdir(parents=True)
    (folder / "study.toml").write_bytes((reference[0] / "study.toml").read_bytes())
    (folder / ".steptimes.json.4711.part").write_text("{")
    (half / "metrics.jsonl").write_text('{"kind": "rule", "rule": "PC')
    (half / ".final.safetensors.4711.part").write_text("")
    finish(folder, "--workers", "2")
    return folder


def test_every_planned_trial_is_there(reference):
    run = load_run(reference[0])
    assert len(run.trials) == run.planned == PLANNED
    assert [trial.failed for trial in run.trials] == [None] * PLANNED
    assert set(run.step_times) == {"Mean", "PCGrad", "FAMO"}
    assert run.environment["workers"] == 1
    assert f"equipoise run {TINY} --rules PCGrad,FAMO --seeds 2" in run.command


def test_piped_it_says_one_line_a_trial(reference):
    folder, said, talk = reference
    lines = [line for line in talk.splitlines() if line.startswith("[")]
    assert len(lines) == PLANNED
    assert lines[0].startswith(f"[1/{PLANNED}] Mean, learning rate 0.05, seed 0: ")
    assert "\x1b" not in talk
    assert f"report: {folder / 'report.html'}" in said
    assert (folder / "report.html").is_file()


def test_fixed_weightings_have_the_learning_rate_that_validation_chose_for_mean(reference):
    run = load_run(reference[0])
    chosen = choices(run)["rule", "Mean", None].learning_rate
    fixed = [result.trial for result in run.trials if result.trial.kind == "fixed"]
    assert {trial.learning_rate for trial in fixed} == {chosen}
    assert {trial.weights for trial in fixed} == {(1 / 3, 2 / 3), (2 / 3, 1 / 3)}


def test_metrics_do_not_depend_on_the_number_of_workers(reference, second):
    assert metrics(second) == metrics(reference[0])
    assert len(metrics(second)) == PLANNED


def test_a_half_written_trial_is_trained_anew(second):
    assert sorted(path.name for path in (second / "trials" / HALF).iterdir()) == [
        "done", "final.safetensors", "metrics.jsonl", "timing.json",
    ]  # fmt: skip
    assert not list(second.rglob(".*.part"))


@linux
def test_killed_at_any_moment_it_goes_on_where_it_was(reference, tmp_path):
    """Nothing that was done is repeated, nothing is missing in the end, and no worker outlives its parent."""
    chance = random.Random(0)
    kept: dict[str, tuple[int, ...]] = {}
    for _ in range(3):
        process = start(tmp_path / "run", "--workers", "2")
        goal = len(kept) + chance.randint(1, 4)
        wait_until(lambda goal=goal: len(done(tmp_path / "run")) >= goal)
        workers = children(process.pid)
        assert len(workers) == 2
        kill(process)
        wait_until(lambda workers=workers: all(map(gone, workers)), seconds=5)
        now = done(tmp_path / "run")
        assert {name: now[name] for name in kept} == kept
        kept = now
    assert len(kept) < PLANNED
    _, talk = finish(tmp_path / "run", "--workers", "2")
    now = done(tmp_path / "run")
    assert {name: now[name] for name in kept} == kept
    assert f"{len(kept)} of {PLANNED} trials are done already" in talk
    assert metrics(tmp_path / "run") == metrics(reference[0])
    assert not list(tmp_path.rglob(".*.part"))


@linux
def test_one_run_at_a_time_and_ctrl_c_leaves_a_folder_that_resumes(reference, tmp_path):
    out = tmp_path / "run"
    process = start(out, "--workers", "2")
    wait_until(lambda: done(out))
    os.kill(process.pid, signal.SIGSTOP)  # hold it, so that it still runs when the other asks
    _, refusal = finish(out, code=1)
    assert f"{out} is in use by the run of process {process.pid}" in refusal
    assert "--out" in refusal
    workers = children(process.pid)
    os.kill(process.pid, signal.SIGCONT)
    os.killpg(process.pid, signal.SIGINT)
    _, talk = process.communicate(timeout=30)
    assert process.returncode == 1, talk
    assert "Traceback" not in talk
    assert f"To go on: equipoise run {TINY} --rules PCGrad,FAMO" in talk
    assert all(map(gone, workers))
    kept = done(out)
    assert 0 < len(kept) < PLANNED
    finish(out)
    now = done(out)
    assert {name: now[name] for name in kept} == kept
    assert metrics(out) == metrics(reference[0])


@linux
def test_a_worker_that_dies_is_replaced_and_its_trial_tried_again(reference, tmp_path):
    process = start(tmp_path / "run", "--workers", "1")
    wait_until(lambda: done(tmp_path / "run"))
    (worker,) = children(process.pid)
    os.kill(worker, signal.SIGKILL)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
    assert metrics(tmp_path / "run") == metrics(reference[0])


def test_a_failed_trial_is_recorded_and_stops_no_other(reference, tmp_path):
    _, talk = finish(tmp_path / "run", "--set", "fail=raise")
    reasons = {r.trial.name: r.failed for r in load_run(tmp_path / "run").trials if r.failed}
    assert set(reasons.values()) == {"LookupError at step 4: no such bottle"}
    assert {name.rpartition("-lr")[2] for name in reasons} == {"0.2-s1"}
    assert {name.split("-")[1] for name in reasons} >= {"Mean", "PCGrad", "FAMO", "grower", "colour"}
    assert talk.count("failed: LookupError at step 4: no such bottle") == len(reasons)
    assert "no such bottle" in (tmp_path / "run/trials/rule-FAMO-lr0.2-s1/error.txt").read_text()
    others = {name for name in metrics(reference[0]) if not name.endswith("lr0.2-s1")}
    others = {name for name in others if not name.startswith("fixed")}  # their learning rate may differ
    found = metrics(tmp_path / "run")
    assert {name: found[name] for name in others} == {name: metrics(reference[0])[name] for name in others}
    assert len(found) == PLANNED


@linux
def test_on_a_terminal_it_shows_bars(tmp_path):
    import pty

    master, slave = pty.openpty()
    study = ("--rules", "Mean", "--seeds", "1", "--epochs", "60")
    process = start(tmp_path / "run", study=study, stderr=slave, stdout=subprocess.DEVNULL)
    os.close(slave)
    shown = b""
    while True:
        try:
            shown += os.read(master, 4096)
        except OSError:
            break
    process.wait(timeout=60)
    os.close(master)
    assert process.returncode == 0
    assert b"trials" in shown
    assert "━".encode() in shown
    assert b"/60" in shown
    assert b"[1/" not in shown


def test_its_trainings_under_fixed_weights_are_runs_of_a_mixture(reference):
    runs, held = mixtures(reference[0]), load_run(reference[0])
    assert runs.sources == runs.objectives == held.objectives
    assert {tuple(p) for p in runs.features.p} >= {(0.5, 0.5), (1.0, 0.0), (0.0, 1.0)}
    one = next(r for r in held.trials if r.trial.kind == "fixed")
    row = runs.run.index(one.trial.name)
    assert runs.features.p[row].tolist() == list(one.trial.weights)
    assert runs.seed_sd().keys() == set(held.objectives)
