"""The plain probes against refits, one sample left out at a time, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.model_selection import LeaveOneOut, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from equipoise.transferability import Sample, knn, logisticprobe, ridgeprobe


@pytest.fixture(scope="module")
def digits():
    """Without equal distances: 150 digits, 64 pixels with a little noise, and their classes."""
    x, y = load_digits(return_X_y=True)
    return x[:150] + 0.01 * np.random.default_rng(0).standard_normal((150, 64)), y[:150]


@pytest.mark.parametrize("neighbours", [1, 5])
def test_knn_is_scikit_learns_left_one_out(digits, neighbours):
    x, y = digits
    peer = cross_val_predict(KNeighborsClassifier(neighbours), x, y, cv=LeaveOneOut())
    if neighbours == 1:
        assert knn(x, y) == pytest.approx((peer == y).mean(), abs=1e-12)
    assert knn(x, y, neighbours=neighbours) == pytest.approx((peer == y).mean(), abs=0.02)  # tied votes
    numbers = np.column_stack([x[:, 3] + x[:, 20], x[:, 30]])
    peer = cross_val_predict(KNeighborsRegressor(neighbours), x, numbers, cv=LeaveOneOut())
    explained = 1 - ((peer - numbers) ** 2).mean(0) / numbers.var(0)
    assert knn(x, numbers, neighbours=neighbours) == pytest.approx(explained.mean(), abs=1e-9)


def test_ties_share_the_vote_whatever_the_order():
    x = np.array([[0.0], [1.0], [1.0], [1.0], [-1.0]])
    y = np.array([0, 0, 1, 1, 1])
    # The first has four neighbours at distance 1, one of which has its label. Those at 1 have two at
    # distance 0, those of class 1 one of each class; the last goes with the first.
    assert knn(x, y) == pytest.approx((0.25 + 0 + 0.5 + 0.5 + 0) / 5)
    # With two votes the last has one of class 0 and one of three at distance 2: a draw for two of them.
    assert knn(x, y, neighbours=2) == pytest.approx((0.25 + 0 + 0.5 + 0.5 + 1 / 3) / 5)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(5)
        assert knn(x[order], y[order]) == pytest.approx(knn(x, y))


@pytest.mark.parametrize("neighbours", [1, 3, 20])
def test_knn_over_many_blocks_is_what_all_distances_say(neighbours):
    """Points of a grid, where most distances are level, in sixths that rounding tells apart."""
    draw = np.random.default_rng(5)
    x, numbers = draw.integers(0, 7, (700, 2)) / 6, draw.standard_normal(700)
    apart = np.round(36 * ((x[:, None] - x) ** 2).sum(2))
    np.fill_diagonal(apart, np.inf)
    last = np.sort(apart, axis=1)[:, neighbours - 1, None]
    nearer, level = apart < last, apart == last
    left = neighbours - nearer.sum(1)
    said = (nearer @ numbers + left * (level @ numbers) / level.sum(1)) / neighbours
    expected = 1 - ((said - numbers) ** 2).mean() / numbers.var()
    assert knn(x, numbers, neighbours=neighbours) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("width", [10, 64, 300])
def test_ridge_is_what_refits_without_each_sample_say(digits, width):
    x, y = digits
    x = np.random.default_rng(1).standard_normal((64, width)).T @ x.T
    x = x.T + 50.0
    one_hot = np.eye(10)[y]
    z = StandardScaler().fit_transform(x)
    largest = np.linalg.eigvalsh(z.T @ z)[-1]
    rarer = one_hot.mean(0) - (one_hot.sum(0) - one_hot) / (len(y) - 1)
    for penalty in (1e-4, 1e-1):
        peer = cross_val_predict(Ridge(penalty * largest), z, one_hot, cv=LeaveOneOut())
        right = ((peer + rarer).argmax(1) == y).mean()  # class shares as of all samples
        assert ridgeprobe(x, y, penalty=penalty) == pytest.approx(right, abs=1e-12)
        explained = 1 - ((peer - one_hot) ** 2).mean(0) / one_hot.var(0)
        assert ridgeprobe(x, one_hot, penalty=penalty) == pytest.approx(explained.mean(), abs=1e-8)


@pytest.mark.parametrize("width", [12, 300])
def test_the_chosen_penalty_is_nearly_the_best(digits, width):
    """Generalised cross-validation comes close to the choice by leaving one out, which RidgeCV makes."""
    x, _ = digits
    draw = np.random.default_rng(2)
    x = x @ draw.standard_normal((64, width))
    t = x[:, 0] + 30 * draw.standard_normal(150)
    x = StandardScaler().fit_transform(x)
    largest = np.linalg.eigvalsh(x.T @ x)[-1]
    peer = RidgeCV(np.logspace(-6, 3, 19) * largest).fit(x, t)
    best = ridgeprobe(x, t, penalty=peer.alpha_ / largest)
    assert best - 0.02 < ridgeprobe(x, t) <= best + 1e-9


def test_logistic_is_scikit_learns_over_folds(digits):
    x, y = digits
    pipe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    peer = [
        cross_val_score(pipe, x, y, cv=StratifiedKFold(5, shuffle=True, random_state=s)) for s in range(3)
    ]
    ours = [logisticprobe(x, y, seed=s) for s in range(3)]
    assert np.mean(ours) == pytest.approx(np.mean(peer), abs=0.02)
    wide = x @ np.random.default_rng(3).standard_normal((64, 400))
    assert 0.7 < logisticprobe(wide, y) <= 1


@pytest.mark.parametrize("probe", [knn, ridgeprobe, logisticprobe])
def test_scale_shift_and_chunks_change_nothing(probe):
    x, y = load_iris(return_X_y=True)
    y = np.array(["a", "b", "c"])[y]
    value = probe(x, y)
    assert 0.8 < value < 1
    assert probe(1e-6 * x, y) == pytest.approx(value, abs=1e-9)
    assert probe(x + 1e3, y) == pytest.approx(value, abs=1e-2)
    assert probe(Sample(lambda: np.array_split(x, 7), y)) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("probe", [knn, ridgeprobe, logisticprobe])
def test_edges_are_finite_or_refused_by_name(probe):
    x = np.random.default_rng(0).standard_normal((6, 9))
    for features, labels in (
        (x, [0, 0, 0, 1, 1, 7]),  # a class of one, absent ones, N < D
        (np.ones((6, 2)), [0, 0, 0, 0, 1, 1]),
        (x, [3, 3, 3, 3, 3, 3]),
    ):
        assert 0 <= probe(features, labels) <= 1
    with pytest.raises(ValueError, match=r"resnet: .*sample"):
        probe(Sample(x[:1], [0], name="resnet"))


@pytest.mark.parametrize("shape", [(200, 5), (60, 500)])
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("probe", [knn, ridgeprobe, logisticprobe])
def test_noise_is_told_as_often_as_by_chance(probe, shape, classes):
    """The mean of 20 draws has a standard error of at most 0.015; without one of its own a class is rarer."""
    y = np.arange(shape[0]) % classes
    draws = [
        np.random.default_rng(seed).standard_normal(shape)
        for seed in range(5 if probe is logisticprobe else 20)
    ]
    assert np.mean([probe(x, y) for x in draws]) == pytest.approx(1 / classes, abs=0.06)
    assert min(probe(x, y) for x in draws[:5]) > 0.4 / classes


@pytest.mark.parametrize("probe", [knn, ridgeprobe, logisticprobe])
def test_constant_features_are_as_good_as_chance(probe):
    for n, classes in ((200, 2), (60, 3), (66, 4)):
        assert probe(np.full((n, 3), 0.1), np.arange(n) % classes) == pytest.approx(1 / classes, abs=0.02)


def test_a_large_column_of_noise_leaves_ridge_what_the_others_tell():
    x, y = load_iris(return_X_y=True)
    noise = np.random.default_rng(4).standard_normal((150, 1))
    values = [ridgeprobe(np.c_[x, factor * noise], y) for factor in (1, 1e6)]
    assert values[1] == pytest.approx(values[0], abs=1e-12)
    assert values[0] > 0.8
