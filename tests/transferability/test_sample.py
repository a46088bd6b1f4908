"""What a sample takes, and what it says of what it does not."""

import numpy as np
import pytest
import torch

from equipoise.transferability import Sample, hscore, leep, logme, ncm
from equipoise.transferability.halves import half

X = np.random.default_rng(0).standard_normal((90, 6))
Y = np.arange(90) % 3


def test_classes_in_a_column_are_classes():
    for labels in (Y[:, None], torch.tensor(Y[:, None]), Y.astype(object)):
        assert Sample(X, labels).is_classes
        assert logme(X, labels) == logme(X, Y)
    text = np.array(["a", "b", "c"], dtype=object)[Y]
    assert Sample(X, text).classes.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("labels", [Y.astype(float), Y[:, None].astype("f4"), torch.tensor(Y).bfloat16()])
def test_whole_floating_point_labels_are_refused_unless_they_are_called_numbers(labels):
    with pytest.raises(ValueError, match=r"resnet: .* 3 values; .*integers.*numbers=True"):
        Sample(X, labels, name="resnet")
    sample = Sample(X, labels, numbers=True)
    assert not sample.is_classes
    assert sample.targets().ravel().tolist() == Y.tolist()
    assert not half(sample, 0).is_classes
    assert not sample.with_features(X).is_classes


def test_numbers_stay_numbers():
    assert not Sample(X, X[:, 0]).is_classes
    assert not Sample(X, np.arange(90.0)).is_classes  # whole ones that do not repeat
    assert not Sample(X, (X[:, :3] > 0).astype(float)).is_classes  # several labels at once
    assert not Sample(X, X[:, :3] > 0).is_classes
    assert not Sample(X, Y, numbers=True).is_classes


CHUNKS = {
    "unlike widths": (lambda: [X[:45], X[45:, :1]], r"from sample 45 on has 1 columns and those before it 6"),
    "too many rows": (lambda: [X, X], r"features of 180 samples or more, labels of 90"),
    "too few rows": (lambda: [X[:50]], r"features of 50 samples, labels of 90"),
    "no width": (lambda: [X[:, :0]], r"shape \(90, 0\); give \(n, D\), D at least 1"),
    "a row alone": (lambda: [X[0]], r"shape \(6,\); give \(n, D\)"),
    "nothing": (list, "no samples"),
    "text": (lambda: [X.astype(str)], "real numbers"),
}


@pytest.mark.parametrize("case", CHUNKS)
@pytest.mark.parametrize("score", [logme, ncm, hscore])
def test_faulty_chunks_are_named(score, case):
    chunks, said = CHUNKS[case]
    with pytest.raises(ValueError, match=f"resnet: .*{said}"):
        score(Sample(chunks, Y, name="resnet"))


def test_a_function_that_gives_one_iterator_twice_is_found_out():
    once = iter([X])
    with pytest.raises(ValueError, match="starts anew"):
        ncm(Sample(lambda: once, Y))


@pytest.mark.parametrize("score", [logme, ncm, hscore])
def test_empty_chunks_do_not_count(score):
    sample = Sample(lambda: [X[:0], X[:5], X[:0], X[5:], X[:0]], Y)
    assert score(sample) == pytest.approx(score(X, Y), rel=1e-9)


INPUTS = {
    "one label": ((X, 3), "labels are one int"),
    "a generator": (((row for row in X), Y), "features are one generator.*function that gives chunks"),
    "no columns": ((X[:, :0], Y), r"shape \(90, 0\)"),
    "None among labels": ((X, [None] + ["a"] * 89), "label of sample 0 is missing"),
    "unlike labels": ((X, np.array([1, "a"] * 45, dtype=object)), "types int, str"),
    "labels in three dimensions": ((X, Y.reshape(90, 1, 1)), r"shape \(90, 1, 1\)"),
    "complex labels": ((X, Y + 1j), "complex128"),
    "text features": ((X.astype(str), Y), "real numbers"),
    "complex features": ((X + 1j, Y), "complex128"),
    "rows of unlike length": (([[1, 2], [3]], [0, 1]), "unlike lengths"),
    "a mask": ((np.ma.masked_array(X, X > 2), Y), "masked"),
    "text probabilities": ((X, Y, np.full((90, 2), "a")), "probabilities have type"),
    "negative ones": ((X, Y, np.tile([1.5, -0.5], (90, 1))), "probability of sample 0 is negative"),
    "logits": ((X, Y, np.tile([1.5, 0.5], (90, 1))), "sum to 2 instead of 1"),
}


@pytest.mark.parametrize("case", INPUTS)
def test_faulty_inputs_are_named(case):
    given, said = INPUTS[case]
    with pytest.raises(ValueError, match=f"resnet: .*{said}"):
        Sample(*given, name="resnet")


@pytest.mark.parametrize(("dtype", "near"), [(torch.bfloat16, 2e-2), (torch.float16, 1e-3)])
def test_probabilities_of_half_precision_are_taken(dtype, near):
    logits = torch.randn(2000, 100, generator=torch.Generator().manual_seed(0))
    said = torch.softmax(logits.to(dtype), 1)
    sample = Sample(None, np.arange(2000) % 3, said)
    assert leep(sample) == pytest.approx(leep(Sample(None, np.arange(2000) % 3, logits.softmax(1))), abs=near)
    assert half(sample, 0).has("probabilities")
    assert sample.with_features(np.ones((2000, 1))).has("probabilities")
    with pytest.raises(ValueError, match=r"sum to .* instead of 1"):
        Sample(None, np.arange(2000) % 3, 1.1 * said)


def test_some_samples_of_a_file_are_checked_as_all_are():
    x = X.copy()
    x[40, 2] = np.nan
    chosen = np.arange(90) % 2 == 0
    for features in (x, lambda: np.array_split(x, 4)):
        with pytest.raises(ValueError, match="resnet: the features of sample 40 is NaN"):
            list(Sample(features, Y, name="resnet").chunks_of(chosen))
