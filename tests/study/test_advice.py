"""`equipoise advise`: which rule, who loses, who conflicts in which layer, without test data."""

import json
from pathlib import Path

import pytest
from tests.cli.command import equipoise

from equipoise.study.advice import conflict
from equipoise.study.profile import Pair, Profile

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
