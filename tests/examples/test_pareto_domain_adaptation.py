"""The example runs, on a few steps of the real data, and its alignment loss is what it says."""

import pytest
import torch


@pytest.fixture(scope="module")
def example(example_of):
    return example_of("pareto_domain_adaptation")


def test_a_short_run_prints_a_line_for_each_method(example, data_folder, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("EQUIPOISE_DATA", str(data_folder))
    example.main(["--seeds", "1", "--steps", "4", "--count", "128", "--out", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "accuracy after 4 steps, 1 seeds"
    assert [line.split("  ")[0].strip() for line in lines[2:-3]] == list(example.METHODS)
    numbers = [float(word) for line in lines[2:-3] for word in line.split("  ")[-1].split(" ± ")]
    assert all(0 <= number <= 1 for number in numbers)


def test_training_names_digits_of_a_domain_that_had_no_labels(example, data_folder, monkeypatch):
    """Ten classes: after a few steps well above a tenth on the target."""
    monkeypatch.setenv("EQUIPOISE_DATA", str(data_folder))
    source, target = (example.domain(name, 500, 0) for name in ("mnist", "usps"))
    accuracy, _ = example.train("equal weights", source, target, 120, 0.05, 0)
    assert accuracy > 0.3


def test_the_discrepancy_is_of_means_and_covariances(example):
    """Two features: means (0, 0) and (1, 0), covariances diag(2, 0) and diag(8, 0): 1/2 + 36/16."""
    source = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    target = torch.tensor([[3.0, 0.0], [-1.0, 0.0]])
    assert float(example.discrepancy(source, target)) == pytest.approx(0.5 + 36 / 16)
    assert float(example.discrepancy(source, source)) == 0.0


def test_missing_data_says_how_to_get_it(example, tmp_path, monkeypatch):
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="Three ways on"):
        example.domain("mnist", 10, 0)
