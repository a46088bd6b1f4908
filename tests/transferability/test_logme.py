"""LogME against the authors' values, and against the dense evidence where samples are fewer than features."""

import numpy as np
import pytest
from tests.transferability.cases import CASES, case, needs_vectors

from equipoise.transferability import Sample, logme
from equipoise.transferability.logme import evidences

AUTHORS = "logme_fixed_point(thuml/LogME, default)"


def dense_evidence(x, t, alpha, beta):
    """log p(t) of a Gaussian with covariance x x' / alpha + I / beta."""
    covariance = x @ x.T / alpha + np.eye(len(x)) / beta
    _, determinant = np.linalg.slogdet(covariance)
    return -(determinant + t @ np.linalg.solve(covariance, t) + len(x) * np.log(2 * np.pi)) / 2


@needs_vectors
@pytest.mark.parametrize("name", CASES)
def test_the_authors_values_with_their_defect(name):
    x, y, _, t, scores = case(name)
    assert logme(x, y, legacy=True) == pytest.approx(scores[AUTHORS], abs=1e-9)
    regression = "logme_regression(thuml/LogME, targets T)"
    assert logme(x, t, legacy=True) == pytest.approx(scores[regression], abs=1e-9)


@needs_vectors
@pytest.mark.parametrize("name", CASES)
def test_the_correction_is_what_the_dense_evidence_says(name):
    x, y, _, _, scores = case(name)
    alphas, betas = scores["logme_alphas"], scores["logme_betas"]
    official = [dense_evidence(x, y == c, a, b) for c, (a, b) in enumerate(zip(alphas, betas, strict=True))]
    found, alphas, betas = evidences(Sample(x, y))
    for c in np.flatnonzero(np.isfinite(alphas)):
        assert found[c] == pytest.approx(dense_evidence(x, 1.0 * (y == c), alphas[c], betas[c]), rel=1e-9)
    # The authors stop after 11 steps or at 0.1%: ours is never below and nowhere far above.
    assert (found > np.array(official) - 1e-9 * len(x)).all()
    assert logme(x, y) == pytest.approx(np.mean(official) / len(x), abs=2e-4)


@pytest.mark.parametrize("shape", [(60, 8), (30, 50), (50, 50)])
def test_it_is_the_greatest_evidence_whatever_the_scale_of_the_features(shape):
    draw = np.random.default_rng(4)
    y = np.arange(shape[0]) % 3
    x = draw.standard_normal(shape) + 1.5 * np.eye(3, shape[1])[y]
    found, alphas, betas = evidences(Sample(x, y))
    for c in range(3):
        at = dense_evidence(x, 1.0 * (y == c), alphas[c], betas[c])
        assert found[c] == pytest.approx(at, rel=1e-9)
        for a, b in draw.uniform(-0.2, 0.2, (20, 2)):
            assert dense_evidence(x, 1.0 * (y == c), alphas[c] * np.exp(a), betas[c] * np.exp(b)) <= at + 1e-7
    scales = [logme(factor * x, y) for factor in (1e-12, 1e-3, 1e3, 1e12)]
    assert scales == pytest.approx([logme(x, y)] * 4, rel=1e-9)


def test_features_that_are_zero_leave_noise_alone():
    """log p = -(log(2 pi v) + 1) / 2 per sample, v the mean square of the column, 1/3 for three classes."""
    alone = -(np.log(2 * np.pi / 3) + 1) / 2
    y = np.arange(90) % 3
    assert logme(np.zeros((90, 6)), y) == pytest.approx(alone, rel=1e-12)
    noise = np.random.default_rng(5).standard_normal((9000, 2))
    assert logme(noise, np.arange(9000) % 3) == pytest.approx(alone, abs=1e-3)


def test_a_label_that_never_occurs_does_not_count():
    draw = np.random.default_rng(6)
    x, labels = draw.standard_normal((100, 5)), (draw.random((100, 3)) < 0.3).astype(float)
    for constant in (np.zeros(100), np.ones(100)):
        assert logme(x, np.c_[labels, constant]) == pytest.approx(logme(x, labels), rel=1e-12)
    with pytest.raises(ValueError, match="resnet: the labels are all alike"):
        logme(Sample(x, np.zeros(100, int), name="resnet"))


def test_a_perfect_fit_is_finite_and_the_best():
    draw = np.random.default_rng(7)
    x = draw.standard_normal((100, 3))
    t = x @ np.array([1.0, 2.0, 3.0])
    assert np.isfinite(logme(x, t))
    assert (
        logme(x, t) > logme(x, t + 1e-3 * draw.standard_normal(100)) > logme(x, t + draw.standard_normal(100))
    )


def test_a_large_column_or_mean_hides_nothing():
    """A column of noise ten times as large costs log(10) / N, by its part of the determinant."""
    draw = np.random.default_rng(8)
    x = draw.standard_normal((4000, 8))
    t = x[:, 0] + draw.standard_normal(4000)
    column = draw.standard_normal((4000, 1))
    values = [logme(np.c_[x, factor * column], t) for factor in (1e4, 1e5, 1e6, 1e7, 1e8)]
    assert np.diff(values) == pytest.approx([-np.log(10) / 4000] * 4, rel=1e-3)
    offset = [logme(x + shift, t) for shift in (1e3, 1e4, 1e5, 1e6)]
    assert np.diff(offset) == pytest.approx([-np.log(10) / 4000] * 3, rel=1e-2)


def test_noise_gains_nothing_from_more_features():
    draw = np.random.default_rng(0)
    y = np.arange(50) % 5
    scores = [logme(draw.standard_normal((50, d)), y) for d in (100, 500, 2000)]
    assert max(scores) - min(scores) < 0.1
    legacy = [logme(draw.standard_normal((50, d)), y, legacy=True) for d in (100, 2000)]
    assert legacy[1] > legacy[0] + 100


def test_chunks_give_what_the_array_gives():
    draw = np.random.default_rng(1)
    x, y = draw.standard_normal((300, 20)) + 1000.0, draw.integers(0, 4, 300)
    whole = logme(x, y)
    assert logme(Sample(lambda: np.array_split(x, 7), y)) == pytest.approx(whole, rel=1e-9)
    assert logme(x[::-1], y[::-1]) == pytest.approx(whole, rel=1e-9)


def test_faults_are_named():
    x = np.ones((4, 2))
    x[2, 1] = np.nan
    with pytest.raises(ValueError, match="resnet: the features of sample 2 is NaN"):
        logme(Sample(x, [0, 1, 0, 1], name="resnet"))
    with pytest.raises(ValueError, match=r"features of 3, labels of 2 samples"):
        logme(np.ones((3, 2)), [0, 1])
