"""Features of low rank, unlike scale, far classes or great width: what scores say, and at what cost."""

import tracemalloc

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from equipoise.transferability import (
    Sample,
    gbc,
    hscore,
    logme,
    mmd,
    otnce,
    parc,
    ridgeprobe,
    sfda,
    transrate,
)
from equipoise.transferability.parc import _components

Y = np.arange(90) % 3


def clouds(n, d, apart, seed=0):
    y = np.arange(n) % 3
    return np.random.default_rng(seed).standard_normal((n, d)) + apart * np.eye(3, d)[y], y


def peak(function, *arguments, **options):
    tracemalloc.start()
    try:
        function(*arguments, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("n", "d"), [(90, 6), (30, 40), (20, 100)])
@pytest.mark.parametrize("components", [32, None])
def test_parc_does_not_see_rounding_nor_order(n, d, components):
    """Of rank 6, or of no more samples than components."""
    x, y = clouds(n, d, 1.5)
    wide = x if len(x) < 90 else x @ np.random.default_rng(1).standard_normal((6, 50))
    value = parc(wide, y, components=components)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(y))
        assert parc(wide[order], y[order], components=components) == pytest.approx(value, abs=1e-6)
    dead = [np.c_[wide, np.full((len(y), 9), constant)] for constant in (0.0, 0.1)]
    values = [parc(features, y, components=components) for features in dead]
    assert values[1] == pytest.approx(values[0], abs=1e-6)
    if components:
        assert values[0] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("shape", [(200, 30), (40, 90), (12, 9)])
@pytest.mark.parametrize("least", [1.0, 1e-3, 1e-7])
def test_parcs_components_are_the_left_singular_vectors(shape, least):
    """The squares of singular values 1 to 1e-7 have a range of 1e14, in which a Gram matrix loses digits."""
    n, d = shape
    draw = np.random.default_rng(7)
    left = np.linalg.qr(np.c_[np.ones(n), draw.standard_normal((n, 8))])[0][:, 1:]
    right = np.linalg.qr(draw.standard_normal((d, 8)))[0]
    x = left * np.geomspace(2, least, 8) @ right.T
    for count in (5, 8, 32):
        found = _components(x, count)
        assert found.shape == (n, min(count, 8))
        np.testing.assert_allclose(np.abs((found * left[:, :count]).sum(0)), 1, atol=1e-6)


def test_parc_draws_500_samples():
    x, y = clouds(700, 6, 0.5)
    assert parc(x, y) == parc(x, y, limit=500)
    assert parc(x, y) != parc(x, y, limit=700)
    assert parc(x[:500], y[:500]) == parc(x[:500], y[:500], limit=2000)
    for components in (0, -1):
        with pytest.raises(ValueError, match=f"components is {components}; give 1 or more, or None"):
            parc(x, y, components=components)


def test_parc_does_not_depend_on_the_embedding():
    x, y = clouds(200, 8, 1.0)
    turned = x @ np.linalg.qr(np.random.default_rng(2).standard_normal((64, 8)))[0].T
    assert parc(turned, y) == pytest.approx(parc(x, y), abs=1e-6)


@pytest.mark.parametrize("n", [20000, 300])
def test_hscore_is_affine_invariant(n):
    draw = np.random.default_rng(3)
    y = np.arange(n) % 2
    x = draw.standard_normal((n, 9)) + np.eye(1, 9) * y[:, None]
    value = hscore(x, y)
    assert value > 0.15
    for factor in (1e-6, 1e6, 1e9):
        unit = np.r_[np.ones(8), factor]
        assert hscore(x * unit, y) == pytest.approx(value, rel=1e-7)
    assert hscore(np.c_[x, x[:, :2] @ [[1.0], [2.0]]], y) == pytest.approx(value, rel=1e-9)
    assert hscore(x + 1e6, y) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("width", [50, 2000])
@pytest.mark.parametrize("apart", [1e3, 1e5, 1e7])
def test_sfda_of_far_classes_is_sure(width, apart):
    x, y = clouds(30, width, apart)
    assert sfda(x, y) > 0.99


def test_sfda_of_columns_twice_is_finite():
    x, y = clouds(90, 6, 0.5)
    for features in (np.c_[x, x] * 1e3, np.c_[x, x] * np.r_[1e6, np.ones(11)]):
        assert 0 < sfda(features, y) <= 1


@pytest.mark.parametrize(
    "score", [logme, hscore, lambda s: hscore(s, shrinkage=True), gbc, sfda, ridgeprobe, transrate]
)
def test_few_samples_of_many_features_make_no_square_matrix(score):
    """A matrix of 6000 x 6000 takes 288 MB."""
    x, y = clouds(24, 6000, 2.0)
    assert peak(score, Sample(x, y)) < 30e6


def test_rows_without_a_square_matrix_say_what_the_covariance_says():
    """N = 40 and 60 features, 30 of them 0, which shrinkage counts: against the dense formulas."""
    x, y = clouds(40, 30, 1.0)
    wide = np.c_[x, np.zeros((40, 30))]
    assert hscore(wide, y) == pytest.approx(hscore(x, y), rel=1e-9)
    shrunk, weight = ledoit_wolf(wide)
    between = np.array([wide[y == c].mean(0) for c in range(3)])[y] - wide.mean(0)
    dense = (1 - weight) * np.trace(np.linalg.solve(shrunk, between.T @ between / 39))
    assert hscore(wide, y, shrinkage=True) == pytest.approx(dense, rel=1e-9)


def test_a_limit_of_samples_reads_no_others(tmp_path):
    """Of 60000 x 64 numbers in a file, 31 MB as float64."""
    np.save(tmp_path / "x.npy", np.random.default_rng(4).standard_normal((60000, 64)).astype("f4"))
    x, y = np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(60000) % 3
    assert peak(parc, Sample(x, y), limit=100) < 8e6
    assert peak(mmd, x, x, limit=100) < 8e6
    assert peak(otnce, Sample(x, y), source=Sample(x, y), limit=100) < 8e6
    assert peak(sfda, Sample(x, y)) < 24e6


def test_transrate_takes_the_classes_that_fit_in_one_pass():
    x, passes = np.random.default_rng(5).standard_normal((600, 8)), []

    def chunks():
        passes.append(1)
        return np.array_split(x, 5)

    value = transrate(Sample(chunks, np.arange(600) % 100))
    assert len(passes) == 2
    assert value == pytest.approx(transrate(x, np.arange(600) % 100), rel=1e-9)
