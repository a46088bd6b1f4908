"""Intermediate tasks, benchmarks and unlabelled targets: maps, task embeddings, facility location, scores."""

from itertools import combinations

import numpy as np
import pytest

from equipoise.transferability import (
    EmbeddingMap,
    Sample,
    embeddingmap,
    facilitylocation,
    fisher_embedding,
    frechet,
    gbc,
    leep,
    logme,
    taskembedding,
    text_embedding,
    transferrisk,
    transferscore,
)
from equipoise.transferability.transferscore import certainty, hopkins, unevenness

DRAW = np.random.default_rng(0)
Y = np.arange(90) % 3
X = DRAW.standard_normal((90, 4)) + 2 * np.eye(4)[Y]
Z = np.exp(DRAW.standard_normal((90, 3)) + np.eye(3)[Y])
P = Z / Z.sum(1, keepdims=True)


def test_a_map_finds_the_affine_map_that_made_the_embeddings():
    matrix, shift = DRAW.standard_normal((4, 6)), DRAW.standard_normal(6)
    found = EmbeddingMap.fit(X, X @ matrix + shift, ridge=0)
    assert np.allclose(found.weight, matrix)
    assert np.allclose(found.bias, shift)
    streamed = EmbeddingMap.fit(
        lambda: np.array_split(X, 5), lambda: np.array_split(X @ matrix + shift, 5), ridge=0
    )
    assert np.allclose(streamed.weight, matrix)


def test_a_map_is_the_least_squares_fit():
    tuned = np.tanh(X @ DRAW.standard_normal((4, 3)))
    found = EmbeddingMap.fit(X, tuned, ridge=0)
    expected = np.linalg.lstsq(np.c_[X, np.ones(90)], tuned, rcond=None)[0]
    assert np.allclose(found.weight, expected[:4])
    assert np.allclose(found.bias, expected[4])


def test_fewer_samples_than_features_give_a_map_that_fits_them():
    base, tuned = DRAW.standard_normal((5, 20)), DRAW.standard_normal((5, 3))
    assert np.allclose(EmbeddingMap.fit(base, tuned)(base), tuned, atol=1e-3)
    constant = EmbeddingMap.fit(np.ones((5, 2)), tuned)
    assert np.allclose(constant(np.ones((1, 2))), tuned.mean(0))


@pytest.mark.parametrize("score", [logme, gbc])
def test_the_score_of_the_map_is_the_score_of_mapped_features(score):
    found = EmbeddingMap(DRAW.standard_normal((4, 2)), DRAW.standard_normal(2))
    assert embeddingmap(X, Y, source=found, score=score) == pytest.approx(score(found(X), Y), rel=1e-9)
    numbers = DRAW.standard_normal((90, 2))
    assert embeddingmap(X, numbers, source=found) == pytest.approx(logme(found(X), numbers), rel=1e-9)
    with pytest.raises(ValueError, match="bert: features have 3 columns and the map takes 4"):
        embeddingmap(Sample(X[:, :3], Y, name="bert"), source=found)
    with pytest.raises(ValueError, match="90 samples of the base model against 80 of the tuned model"):
        EmbeddingMap.fit(X, X[:80])


def test_embeddings_of_tasks_are_means():
    assert np.allclose(text_embedding(X), X.mean(0))
    assert np.allclose(text_embedding(lambda: np.array_split(X, 4)), X.mean(0))
    assert np.allclose(fisher_embedding(X), (X**2).mean(0))


def test_ranks_of_components_are_fused():
    """Two sources; near is first in one component and second in the other, and so is far."""
    target = {"low": [1.0, 0.0], "high": [0.0, 1.0]}
    near = {"low": [1.0, 0.1], "high": [1.0, 0.0]}
    far = {"low": [0.0, 1.0], "high": [0.0, 2.0]}
    found = taskembedding(target, {"near": near, "far": far})
    assert found["near"] == pytest.approx(1 / 61 + 1 / 62) == found["far"]
    alike = taskembedding(target, {"near": near, "same": near, "far": far})
    assert alike["near"] == alike["same"] == pytest.approx(1 / 61.5 + 1 / 62.5)
    assert alike["far"] == pytest.approx(1 / 63 + 1 / 61)


def test_a_factor_on_an_embedding_does_not_move_a_task():
    sources = {"a": X[0], "b": X[1], "none": np.zeros(4)}
    found = taskembedding(X[2], sources)
    assert taskembedding(3 * X[2], sources) == pytest.approx(found)
    assert found["none"] == 0
    with pytest.raises(ValueError, match=r"b has vector of 3, and the target vector of 4"):
        taskembedding(X[0], {"b": X[1, :3]})
    with pytest.raises(ValueError, match="the embedding of b is empty, NaN"):
        taskembedding(X[0], {"b": X[1] * np.nan})


def test_greedy_facilities_are_within_1_minus_1_over_e_of_the_best():
    draw = np.random.default_rng(1)
    for _ in range(5):
        s = draw.random((9, 9))
        found = facilitylocation(s, 3)
        best = max(s[:, list(three)].max(1).sum() for three in combinations(range(9), 3))
        assert best >= found.values[-1] >= (1 - 1 / np.e) * best
        assert found.values[-1] == pytest.approx(s[:, found.chosen].max(1).sum())
        gains = np.diff(found.values, prepend=0)
        assert (np.diff(gains) <= 1e-12).all()


def test_all_tasks_estimate_the_mean_and_clusters_by_one_task_each():
    draw = np.random.default_rng(2)
    cluster = np.array([0, 0, 0, 1, 1, 2])
    found = facilitylocation((cluster[:, None] == cluster).astype(float), 3)
    results = draw.random((4, 3))[:, cluster]
    assert np.allclose(found.estimate(results[:, found.chosen]), results.mean(1))
    assert sorted(found.weights) == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    whole = facilitylocation(draw.random((6, 6)), 6)
    any_results = draw.random(6)
    assert whole.estimate(any_results[whole.chosen]) == pytest.approx(any_results.mean())


def test_facility_location_names_the_fault():
    with pytest.raises(ValueError, match="similarity of tasks 0 and 1 is -1"):
        facilitylocation([[1.0, -1.0], [0.0, 1.0]], 1)
    with pytest.raises(ValueError, match="size must be 1 to 2"):
        facilitylocation(np.eye(2), 3)
    with pytest.raises(ValueError, match="results have shape"):
        facilitylocation(np.eye(2), 1).estimate([0.1, 0.2])


def test_the_weights_of_a_regular_simplex_are_even():
    simplex = np.eye(5) - 1 / 5
    assert unevenness(simplex) == pytest.approx(0.0, abs=1e-12)
    assert unevenness(np.eye(3)) == pytest.approx((np.pi / 2 - np.arccos(-1 / 2)) ** 2)


def test_certainty_is_one_for_sure_and_even_predictions_and_zero_for_alike_ones():
    assert certainty(np.eye(4)[np.arange(8) % 4]) == pytest.approx(1.0)
    assert certainty(np.tile([0.7, 0.2, 0.1], (6, 1))) == pytest.approx(0.0, abs=1e-12)


def test_hopkins_tells_clusters_from_an_even_spread():
    """Even points give 1/2 but for edges and chance, 0.1 at 400 samples; tight clusters come near 1."""
    draw = np.random.default_rng(3)
    assert hopkins(draw.random((400, 2)), share=0.5) == pytest.approx(0.5, abs=0.1)
    clusters = draw.random((4, 2))[np.arange(400) % 4] + 0.001 * draw.standard_normal((400, 2))
    assert hopkins(clusters, share=0.5) > 0.95
    assert hopkins(np.ones((5, 2))) == 0.5


def test_transfer_score_is_the_sum_of_its_parts_and_prefers_the_better_model():
    weights = np.eye(3, 4) - 1 / 3 * np.eye(4)[:3].sum(0)
    found = transferscore(X, probabilities=P, weights=weights)
    assert found == pytest.approx(hopkins(X) + certainty(P) - unevenness(weights))
    assert transferscore(3 * X, probabilities=P, weights=3 * weights) == pytest.approx(found, rel=1e-9)
    tight = 9 * np.eye(4)[Y] + 0.1 * X
    assert transferscore(tight, probabilities=np.eye(3)[Y], weights=weights) > found + 0.3
    with pytest.raises(ValueError, match="weights have shape"):
        transferscore(X, probabilities=P, weights=weights[:2])


def test_transfer_risk_is_distance_over_spread_plus_loss():
    source = X + 1.0
    spread = 2 * np.trace(np.cov(X.T))
    expected = -(4.0 / spread - leep(labels=Y, probabilities=P))
    assert transferrisk(X, Y, P, source=source) == pytest.approx(expected, rel=1e-9)
    assert frechet(X, source) == pytest.approx(4.0)
    assert transferrisk(5 * X, Y, P, source=5 * source) == pytest.approx(expected, rel=1e-9)
    assert transferrisk(X, Y, P, source=X + 9) < transferrisk(X, Y, P, source=source)
