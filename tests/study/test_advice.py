"""`equipoise advise`: which rule, who loses, who conflicts in which layer, without test data."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.command import equipoise

from equipoise.study.advice import conflict, loss
from equipoise.study.analysis import analyse
from equipoise.study.profile import Pair, Profile
from equipoise.study.store import load_run

OPPOSED = Path(__file__).with_name("opposed_problem.py")
STUDY = ("--rules", "UPGrad,MGDA", "--seeds", "3", "--steps", "12", "--workers", "2", "--quiet")


@pytest.fixture(scope="module")
def advised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("advice")
    said = equipoise("advise", str(OPPOSED), "--out", str(folder), *STUDY, "--json").stdout
    return folder, json.loads(said)


def test_it_names_the_pair_that_conflicts_and_the_layer(advised):
    _, found = advised
    worst = found["advice"]["conflict"]["pairs"][0]
    assert {worst["first"], worst["second"]} == {"up", "down"}
    assert worst["cosine"] < worst["high"] < -0.5
    assert sum(worst["layers"].values()) == pytest.approx(worst["cosine"], abs=1e-6)
    assert worst["layers"]["torn"] < -0.5
    assert any("up and down" in said and "torn (100%)" in said for said in found["advice"]["sentences"])


def test_the_advice_rests_on_paired_differences_with_intervals(advised):
    _, found = advised
    assert found["advice"]["sentences"][0] == found["verdict"]["sentence"]
    compared = found["verdict"]["comparisons"]
    assert {c["rule"] for c in compared} == {"UPGrad", "MGDA"}
    assert all(c["low"] < c["gain"] < c["high"] and c["seeds"] == 3 for c in compared)
    winner = found["verdict"]["rule"] or "Mean"
    assert found["advice"]["rule"] == winner


def test_every_trial_ends_after_the_steps_asked_for_and_sees_no_test_data(advised):
    folder, found = advised
    assert found["trials"]["failed"] == 0, "a look at test data fails a trial of this problem"
    ends = [json.loads(p.read_text().splitlines()[-1]) for p in folder.glob("trials/*/metrics.jsonl")]
    assert {end["steps"] for end in ends} == {12}


def test_called_again_it_does_nothing_twice_and_says_the_same(advised):
    folder, found = advised
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != "report.html"}
    said = equipoise("advise", str(OPPOSED), "--out", str(folder), *STUDY).stdout
    after = {p: p.stat().st_mtime_ns for p in before}
    assert {p for p in before if before[p] != after[p]} <= {folder / ".lock"}
    assert found["advice"]["sentences"][0] in said
    assert "12 steps and validation data" in said


def test_the_page_has_the_grounds_and_the_picture(advised):
    folder, _ = advised
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Who conflicts, and where" in page
    assert 'data-figure="profile"' in page
    assert "On\nvalidation data" in page
    figures = page.partition('id="figures">')[2].partition("</script>")[0]
    drawn = json.loads(figures)["profile"]
    assert drawn["data"][0]["y"][0] == "torn"
    assert len(drawn["data"][0]["x"]) == 3


def test_report_keeps_the_advice_on_its_page(advised):
    folder, _ = advised
    equipoise("report", str(folder))
    assert "Who conflicts, and where" in (folder / "report.html").read_text(encoding="utf-8")


def test_where_conflict_cannot_be_measured_the_advice_says_why(tmp_path):
    """One batch an epoch: there is no second one to compare with."""
    path = tmp_path / "whole.py"
    path.write_text(
        OPPOSED.read_text()
        .replace("range(0, len(part), 30)", "range(0, len(part), 1000)")
        .replace("start : start + 30", "start : start + 1000")
    )
    out = tmp_path / "run"
    asked = ("--rules", "MGDA", "--seeds", "2", "--steps", "3", "--quiet")
    said = equipoise("advise", str(path), "--out", str(out), *asked).stdout
    assert "Who conflicts was not measured: no two batches of an epoch" in said
    assert (out / "report.html").exists()


def test_where_every_trial_fails_the_first_reason_is_said(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(
        OPPOSED.read_text().replace(
            '"down": (torn + goal).square().mean(),', '"down": (torn + goal).square().mean() * float("nan"),'
        )
    )
    asked = ("--rules", "MGDA", "--seeds", "2", "--steps", "3", "--quiet", "--out", str(tmp_path / "run"))
    done = equipoise("advise", str(path), *asked, code=1)
    assert "trials failed, the first with:" in done.stderr
    assert "down" in done.stderr


def test_a_pair_whose_interval_holds_zero_is_not_called_a_conflict():
    wide = Pair("a", "b", -0.3, -0.9, 0.3, {"l": -0.3})
    real = Pair("a", "c", -0.1, -0.12, -0.08, {"l": -0.1})
    said = conflict(Profile((wide, real), {}, 2.0, 10, 2))
    assert said[0].startswith("a and c conflict (cosine −0.10")


def test_a_loss_that_cannot_be_told_is_not_denied(advised):
    """Two seeds on which an objective lost ten points say little of the mean loss."""
    folder, _ = advised
    analysis = analyse(load_run(folder))
    row = analysis.row("MGDA")
    assert row is not None
    few = replace(row, against={"up": (-0.10, -0.12), "down": (0.01, 0.02), "other": (0.0, 0.01)})
    (said,) = loss(few, analysis)
    assert "cannot be told" in said
    clear = replace(
        row,
        against={
            name: (-0.1 + i / 1000, -0.1, -0.1 - i / 1000, -0.1) for i, name in enumerate(("up", "down"))
        },
    )
    (said,) = loss(clear, analysis)
    assert said.startswith("Worse off with MGDA than with Mean: down (−10.0 points")
    assert "up (−10.0 points" in said


def test_no_conflict_is_said_as_plainly():
    pair = Pair("a", "b", -0.01, -0.06, 0.04, {"trunk": -0.01})
    (said,) = conflict(Profile((pair,), {"a": 0.1, "b": 0.0}, 2.0, 10, 2))
    assert said.startswith("No two objectives conflict beyond the noise of their batches")
    assert conflict(Profile((), {"a": 0.0}, 1.0, 10, 2)) == ["There is one objective, so nothing conflicts."]


def test_a_long_direction_and_the_hurt_are_named():
    pair = Pair("a", "b", -0.5, -0.6, -0.4, {"trunk": -0.6, "head": 0.1})
    said = conflict(Profile((pair,), {"a": 0.7, "b": 0.0}, 25.0, 10, 2))
    assert said[0] == "a and b conflict (cosine −0.50, interval −0.60 to −0.40), most in trunk (100%)."
    assert said[1] == "The mean goes against a at half of all looks or more."
    assert "25 times the shortest" in said[2]
