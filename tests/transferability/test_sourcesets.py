"""Sets of sources: transport, the scores of sets, and greedy choice."""

from functools import partial
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import linprog

from equipoise.transferability import Osborn, Sample, choose_sources, eleep, leep, msleep, osborn, otnce
from equipoise.transferability.transport import conditional_entropy, matched


def model(seed, n=40, d=3, classes=3, shift=0.0):
    """Features, labels and predictions of a source model that knows the labels a little."""
    draw = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = draw.standard_normal((n, d)) + shift + np.eye(d)[y]
    z = draw.standard_normal((n, classes)) + draw.uniform(0, 3) * np.eye(classes)[y]
    p = np.exp(z)
    return Sample(x, y, p / p.sum(1, keepdims=True), name=f"model {seed}")


POOL = {f"m{seed}": model(seed) for seed in range(6)}
SOURCES = {f"m{seed}": model(seed + 10, shift=seed / 3) for seed in range(6)}


@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 12), (9, 3)])
def test_the_match_is_the_optimal_transport_of_the_linear_programme(n, m):
    draw = np.random.default_rng(n)
    x, y = draw.standard_normal((n, 2)), draw.standard_normal((m, 2)) + 1
    costs = ((x[:, None] - y[None]) ** 2).sum(2)
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    best = linprog(
        costs.ravel(),
        A_eq=np.vstack([rows, columns]),
        b_eq=np.r_[np.full(n, 1 / n), np.full(m, 1 / m)],
    )
    left, right, cost = matched(Sample(x), Sample(y))
    assert cost == pytest.approx(best.fun, rel=1e-9)
    assert np.allclose(np.bincount(left) / len(left), 1 / n)
    assert np.allclose(np.bincount(right) / len(right), 1 / m)


@pytest.mark.parametrize(("n", "m"), [(80, 80), (30, 120)])
def test_the_match_costs_what_pot_says(n, m):
    pot = pytest.importorskip("ot", reason="POT is not installed")
    draw = np.random.default_rng(n)
    x, y = draw.standard_normal((n, 4)), draw.standard_normal((m, 4)) + 1
    exact = pot.emd2(pot.unif(n), pot.unif(m), pot.dist(x, y))
    assert matched(Sample(x), Sample(y))[2] == pytest.approx(exact, rel=1e-9)


def test_conditional_entropy_of_a_worked_table():
    """Given 0 the label is sure, given 1 it is a coin: log(2) / 2 in the mean."""
    given, labels = np.array([0, 0, 1, 1]), np.array([2, 2, 0, 1])
    assert conditional_entropy(given, labels) == pytest.approx(np.log(2) / 2)


def test_ot_nce_is_zero_where_source_classes_lie_on_target_classes():
    draw = np.random.default_rng(0)
    y = np.arange(30) % 3
    x = 9 * np.eye(3)[y] + draw.standard_normal((30, 3))
    source = Sample(9 * np.eye(3)[y] + draw.standard_normal((30, 3)), (y + 1) % 3)
    assert otnce(x, y, source=source) == pytest.approx(0.0, abs=1e-12)
    same = Sample(draw.standard_normal((30, 3)), np.zeros(30, int))
    assert otnce(x, y, source=same) == pytest.approx(-np.log(3))
    order = draw.permutation(30)
    noise = Sample(draw.standard_normal((30, 3)), draw.integers(0, 4, 30))
    assert otnce(x[order], y[order], source=noise) == pytest.approx(otnce(x, y, source=noise), rel=1e-9)


def test_ot_nce_names_the_fault():
    with pytest.raises(ValueError, match="source features have 2 columns and target features 3"):
        otnce(np.ones((4, 3)), [0, 1, 0, 1], source=Sample(np.ones((4, 2)), [0, 1, 0, 1]))


def test_one_source_alone_has_its_leep():
    for name, sample in POOL.items():
        expected = leep(labels=sample.labels, probabilities=sample.probabilities)
        assert eleep({name: sample}) == pytest.approx(expected)
        assert msleep({name: sample}) == pytest.approx(expected)


def test_the_average_is_no_worse_than_the_mean_of_the_members():
    """The logarithm is concave: E-LEEP is at least MS-LEEP divided by the size of the set."""
    assert eleep(POOL) >= msleep(POOL) / len(POOL)
    assert eleep({"a": POOL["m0"], "b": POOL["m0"]}) == pytest.approx(eleep({"a": POOL["m0"]}))


def test_sets_need_the_same_labels():
    other = Sample(labels=[0, 1, 1], probabilities=np.full((3, 2), 0.5))
    for score in (eleep, msleep):
        with pytest.raises(ValueError, match="m0 and other have unlike labels"):
            score({"m0": POOL["m0"], "other": other})
        with pytest.raises(ValueError, match="the pool holds no models"):
            score({})


def test_osborn_is_submodular_and_zero_for_nothing():
    score = Osborn(POOL, SOURCES)
    assert score([]) == 0
    small, large = ["m0", "m1"], ["m0", "m1", "m2", "m3"]
    for name in ("m4", "m5"):
        gain = score([*small, name]) - score(small)
        assert gain >= score([*large, name]) - score(large)
    assert score(POOL) == pytest.approx(osborn(POOL, sources=SOURCES))


def test_osborn_does_not_depend_on_the_scale_of_a_model():
    scaled = {n: Sample(7 * s.features, s.labels, s.probabilities) for n, s in POOL.items()}
    sources = {n: Sample(7 * s.features, s.labels) for n, s in SOURCES.items()}
    assert osborn(scaled, sources=sources) == pytest.approx(osborn(POOL, sources=SOURCES), rel=1e-9)


def test_osborn_names_what_is_missing():
    with pytest.raises(ValueError, match="no source data are given for m5"):
        Osborn(POOL, {name: s for name, s in SOURCES.items() if name != "m5"})
    with pytest.raises(ValueError, match="no source x; there are m0"):
        Osborn(POOL, SOURCES)(["x"])


@pytest.mark.parametrize("score", [msleep, Osborn(POOL, SOURCES)])
def test_lazy_choice_is_the_greedy_choice_with_fewer_questions(score):
    asked = []

    def counted(part):
        asked.append(len(part))
        return score(part)

    plain = choose_sources(POOL, counted, 4)
    whole, asked[:] = len(asked), []
    lazy = choose_sources(POOL, counted, 4, lazy=True)
    assert lazy.names == plain.names
    assert lazy.values == pytest.approx(plain.values)
    assert len(asked) < whole


def test_every_choice_is_the_best_next_one():
    found = choose_sources(POOL, eleep, 3)
    for at in range(3):
        chosen = found.names[:at]
        best = max(eleep({n: POOL[n] for n in (*chosen, name)}) for name in POOL if name not in chosen)
        assert found.values[at] == pytest.approx(best)


def test_the_best_pair_of_a_modular_score_is_found():
    found = choose_sources(POOL, msleep, 2)
    best = max(combinations(POOL, 2), key=lambda pair: msleep({name: POOL[name] for name in pair}))
    assert set(found.names) == set(best)


def test_choice_names_the_fault():
    with pytest.raises(ValueError, match="size must be 1 to 6"):
        choose_sources(POOL, msleep, 7)
    with pytest.raises(ValueError, match="the score of m0 is NaN"):
        choose_sources(POOL, partial(lambda part: float("nan")), 1)
