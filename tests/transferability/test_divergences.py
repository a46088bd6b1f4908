"""Distances between domains: zero for equal ones, and what Gaussians have in closed form."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from equipoise.transferability import Sample, coral, frechet, mmd, proxy_a_distance

DISTANCES = (proxy_a_distance, mmd, coral, frechet)
DRAW = np.random.default_rng(0)
X, Y = DRAW.standard_normal((60, 4)), DRAW.standard_normal((50, 4)) @ DRAW.standard_normal((4, 4)) + 1


def gaussian(draw, n, mean, covariance):
    """n samples whose mean and covariance are exactly those given."""
    z = draw.standard_normal((n, len(mean)))
    z -= z.mean(0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T
    return z @ np.linalg.cholesky(covariance).T + mean


@pytest.mark.parametrize("distance", [coral, frechet])
def test_equal_moments_have_no_distance(distance):
    assert distance(X, X) == pytest.approx(0.0, abs=1e-10)
    assert distance(X, X[::-1]) == pytest.approx(0.0, abs=1e-10)
    assert distance(X, Y) > 0.1


def test_domains_of_one_distribution_cannot_be_told_apart():
    """Twenty draws: the unbiased discrepancy is 0 in the mean, within four of its standard errors."""
    draw = np.random.default_rng(1)
    pairs = [(draw.standard_normal((40, 3)), draw.standard_normal((50, 3))) for _ in range(20)]
    found = np.array([mmd(*pair) for pair in pairs])
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(20)
    assert mmd(X, X, unbiased=False) == pytest.approx(0.0, abs=1e-12)
    assert np.mean([proxy_a_distance(*pair) for pair in pairs[:5]]) < 0.3


def test_frechet_of_gaussians_is_the_closed_form():
    draw = np.random.default_rng(2)
    first, second = np.diag([1.0, 4.0, 9.0]), np.array([[2.0, 1.0, 0], [1.0, 3.0, 0], [0, 0, 1.0]])
    x = gaussian(draw, 40, np.zeros(3), first)
    y = gaussian(draw, 30, np.array([1.0, 2.0, 2.0]), second)
    expected = 9 + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet(x, y) == pytest.approx(expected, rel=1e-9)
    assert coral(x, y) == pytest.approx(((first - second) ** 2).sum() / (4 * 9), rel=1e-9)


def test_frechet_of_few_samples_is_symmetric():
    x, y = X[:3, :], Y[:2, :]
    assert frechet(x, y) == pytest.approx(frechet(y, x), rel=1e-7)


def test_mmd_of_gaussians_is_the_closed_form():
    """E k = (w^2 / (w^2 + 2))^(D/2) exp(-|m|^2 / (2 (w^2 + 2))); 2000 samples leave an error of some 0.01."""
    draw = np.random.default_rng(3)
    x, y = draw.standard_normal((2000, 2)), draw.standard_normal((2000, 2)) + 1
    width = 1.5
    alike = width**2 / (width**2 + 2)
    expected = 2 * alike * (1 - np.exp(-2 / (2 * (width**2 + 2))))
    assert mmd(x, y, bandwidth=width) == pytest.approx(expected, abs=0.03)


def test_mmd_sees_what_the_moments_do_not():
    draw = np.random.default_rng(4)
    x = gaussian(draw, 300, np.zeros(2), np.eye(2))
    y = gaussian(draw, 300, np.zeros(2), np.eye(2))
    y[:, 0] = np.sign(y[:, 0])
    y = (y - y.mean(0)) / y.std(0, ddof=1)
    assert mmd(x, y, bandwidth=0.5) > 0.02
    assert frechet(x, y) < 0.02


@pytest.mark.parametrize("distance", DISTANCES)
def test_further_is_more(distance):
    near, far = distance(X, X + 0.1 * Y[:1]), distance(X, 3 * X + 2)
    assert far > near


@pytest.mark.parametrize("distance", [mmd, coral, frechet])
def test_neither_the_order_of_samples_nor_of_domains_matters(distance):
    order = np.random.default_rng(5).permutation(60)
    assert distance(X[order], Y) == pytest.approx(distance(X, Y), rel=1e-9)
    assert distance(Y, X) == pytest.approx(distance(X, Y), rel=1e-9)


def test_the_folds_of_the_proxy_distance_matter_little():
    """0.2 of a range of 2."""
    order = np.random.default_rng(5).permutation(60)
    assert proxy_a_distance(X[order], Y) == pytest.approx(proxy_a_distance(X, Y), abs=0.2)


@pytest.mark.parametrize("distance", DISTANCES)
def test_chunks_give_what_the_array_gives(distance):
    streamed = Sample(lambda: np.array_split(X, 7), name="stream")
    assert distance(streamed, Y) == pytest.approx(distance(X, Y), rel=1e-9)


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_factor_on_all_features(distance):
    if distance in (mmd, proxy_a_distance):
        assert distance(3 * X, 3 * Y) == pytest.approx(distance(X, Y), rel=1e-6)
    else:
        power = 4 if distance is coral else 2
        assert distance(3 * X, 3 * Y) == pytest.approx(3**power * distance(X, Y), rel=1e-9)


@pytest.mark.parametrize("distance", DISTANCES)
def test_degenerate_domains(distance):
    """Constant features have no distance from themselves, and inputs are not written into."""
    ones = np.ones((6, 3))
    assert distance(ones, ones.copy()) == pytest.approx(0.0, abs=1e-12)
    assert np.array_equal(ones, np.ones((6, 3)))
    with pytest.raises(ValueError, match="source features have 4 columns and target features 3"):
        distance(X, np.ones((60, 3)))
    with pytest.raises(ValueError, match=r"1 samples|of 1"):
        distance(X, Y[:1])
    broken = X.copy()
    broken[2, 0] = np.nan
    with pytest.raises(ValueError, match="the source: the features of sample 2 is NaN"):
        distance(broken, Y)
