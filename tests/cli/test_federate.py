"""`equipoise federate`: systems side by side, resumed, reported."""

import json

import pytest
from tests.conftest import opened_page

from equipoise.cli.main import main


@pytest.fixture
def equipoise(capsys):
    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["federate", *words])
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    return call


SMALL = ("--set", "client_count=3", "--rounds", "3", "--steps", "2")


def test_two_systems_are_compared_and_the_second_call_repeats_nothing(equipoise, tmp_path):
    words = (
        "digits-clients",
        *SMALL,
        "--algorithm",
        "FedAvg,FedGTST:xi=0.02",
        "--out",
        str(tmp_path / "run"),
    )
    code, out, _ = equipoise(*words)
    assert code == 0
    assert out.splitlines()[-1] == f"report: {tmp_path / 'run' / 'report.html'}"
    state = tmp_path / "run" / "FedAvg" / "seed-0" / "state.safetensors"
    before = state.stat().st_mtime_ns
    code, out, _ = equipoise(*words, "--json")
    assert code == 0
    assert state.stat().st_mtime_ns == before
    found = json.loads(out)
    assert {one["system"] for one in found["standings"]} == {"FedAvg", "FedGTST:xi=0.02"}
    assert found == json.loads((tmp_path / "run" / "standings.json").read_text())


def test_a_rule_of_the_library_is_a_system(equipoise, tmp_path):
    code, _, err = equipoise("digits-clients", *SMALL, "--algorithm", "UPGrad", "--out", str(tmp_path))
    assert code == 0, err


def test_seeds_and_partial_participation(equipoise, tmp_path):
    code, out, err = equipoise(
        "digits-clients",
        *SMALL,
        "--seeds",
        "2",
        "--count",
        "2",
        "--effort",
        "0.5,1",
        "--out",
        str(tmp_path),
        "--json",
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["seeds"] == 2
    assert found["costs"][0]["asked"] == 6


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("digits-clients", "--algorithm", "FedAvgg"), "nearest: FedAvg"),
        (("digits-clients", "--algorithm", "FedGTST:xj=1"), "xi"),
        (("digits-clients", "--algorithm", "FedGTST:xi=-1"), "xi is -1"),
        (("digits-clients", "--effort", "half"), "--effort 'half'"),
        (("digits-clients", "--dropout", "2"), "dropout is 2.0"),
        (("digits-clients", "--learning-rate", "0"), "learning_rate is 0.0"),
        (("digit-clients",), "digits-clients"),
        (("digits-pairs",), "equipoise run"),
        (("digits-clients", "somewhere"), "--out"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(equipoise, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    code, _, err = equipoise(*words)
    assert code in (1, 2)
    assert told in " ".join(err.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_the_folder_of_another_run_is_refused(equipoise, tmp_path):
    first = equipoise("digits-clients", *SMALL, "--out", str(tmp_path))
    assert first[0] == 0
    code, _, err = equipoise("digits-clients", *SMALL, "--momentum", "0.5", "--out", str(tmp_path))
    assert code == 1
    assert "another run" in err
    assert "local" in err


def test_the_page_stands_alone_in_a_browser(equipoise, tmp_path, browser):
    code, _, err = equipoise("digits-clients", *SMALL, "--out", str(tmp_path))
    assert code == 0, err
    page = opened_page(browser, tmp_path / "report.html", "#curves .plotly")
    assert page.heard == []
    assert page.locator("h1").inner_text().startswith("FedAvg: the worst client")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.reload()
        page.wait_for_selector("#curves .plotly")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
