"""Missing data is an error that names the ways to get it; nothing is downloaded unasked."""

import subprocess
import sys
from urllib.error import URLError

import numpy as np
import pytest
from sklearn.datasets import load_digits

from equipoise.problems import data
from equipoise.problems.registry import federation, problem

FILES = {
    "mnist-pairs": "mnist/mnist.npz",
    "sarcos": "multi_target/sarcos_test.npz",
    "adult": "fairness/adult.csv.gz",
}


@pytest.fixture
def no_network(monkeypatch):
    def fetch_openml(**options):
        raise URLError(f"no network for {options['data_id']}")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch_openml)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("is_set", [True, False])
def test_missing_data_names_three_ways(monkeypatch, tmp_path, name, is_set):
    if is_set:
        monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    else:
        monkeypatch.delenv("EQUIPOISE_DATA", raising=False)
    with pytest.raises(data.MissingData) as caught:
        problem(name).prepare()
    words = str(caught.value)
    assert f"set $EQUIPOISE_DATA to a folder that holds {FILES[name]}" in words
    assert "digits-pairs, whose data ships with scikit-learn" in words
    assert "download from OpenML with the option download=true" in words
    assert (f"is not at {tmp_path / FILES[name]}" if is_set else "$EQUIPOISE_DATA is not set") in words


@pytest.mark.usefixtures("no_network")
def test_a_federation_without_its_data_points_to_one_that_needs_none(monkeypatch, tmp_path):
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    with pytest.raises(data.MissingData) as caught:
        federation("mnist-clients").prepare()
    assert "Three ways on" in str(caught.value)
    assert "take digits-clients, whose data ships with scikit-learn" in str(caught.value)
    with pytest.raises(data.MissingData) as caught:
        federation("cifar10-clients").prepare()
    assert "holds cifar10/cifar10_8k.npz" in str(caught.value)
    assert "Two ways on" in str(caught.value)
    assert "download" not in str(caught.value)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("name", "number"), [("mnist-pairs", 554), ("sarcos", 44976), ("adult", 1590)])
def test_a_download_is_tried_where_it_was_asked_for(monkeypatch, tmp_path, name, number):
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    with pytest.raises(data.MissingData, match=f"could not be fetched from OpenML.*no network for {number}"):
        problem(name, download="true").prepare()


@pytest.mark.usefixtures("no_network")
def test_a_federation_downloads_where_it_was_asked_to(monkeypatch, tmp_path):
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    with pytest.raises(data.MissingData, match=r"could not be fetched from OpenML.*no network for 554"):
        federation("mnist-clients", download="true").prepare()


@pytest.mark.usefixtures("no_network", "data_folder")
@pytest.mark.parametrize("name", FILES)
def test_data_that_is_there_is_not_downloaded(name):
    found = problem(name, download=True)
    found.prepare()
    assert len(next(iter(found.batches("train", None)))) > 1


@pytest.mark.usefixtures("no_network")
def test_digits_pairs_needs_nothing(monkeypatch):
    monkeypatch.delenv("EQUIPOISE_DATA", raising=False)
    found = problem("digits-pairs")
    found.prepare()
    assert len(next(iter(found.batches("train", None)))) == 3


@pytest.mark.usefixtures("no_network")
def test_digits_clients_needs_nothing(monkeypatch):
    monkeypatch.delenv("EQUIPOISE_DATA", raising=False)
    found = federation("digits-clients")
    found.prepare()
    assert len(found.examples("client-00", "train")[0]) == 100


def test_digits_are_those_of_scikit_learn():
    images, labels = load_digits(return_X_y=True)
    found = data.digits()
    for mine, theirs in zip(found, (images, labels), strict=True):
        assert mine.dtype == theirs.dtype
        assert np.array_equal(mine, theirs)


def test_a_short_federated_run_does_not_load_scikit_learn():
    program = (
        "import sys; from equipoise.problems import federation; federation('digits-clients').prepare();"
        "sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
