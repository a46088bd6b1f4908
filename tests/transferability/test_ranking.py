"""Ranking a pool: orders, gaps, half-samples, agreement, baselines; one sample in memory at a time."""

import json
from functools import partial
from weakref import ref

import numpy as np
import pytest
from scipy.stats import weightedtau
from sklearn.base import clone
from tests.transferability.cases import FILE, needs_vectors

from equipoise.transferability import (
    ModelSelector,
    Pool,
    Sample,
    etran,
    hscore,
    leep,
    logme,
    ped,
    rank,
    static_rank,
    tmi,
    weighted_tau,
)
from equipoise.transferability.halves import half
from equipoise.transferability.rankingtext import column_rows, model_rows
from equipoise.transferability.scorers import scorers

Y = np.arange(90) % 3
SEPARATIONS = {"poor": 0.2, "fair": 1.0, "good": 3.0, "best": 8.0}


def features(separation: float) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((90, 4)) + separation * np.eye(3, 4)[Y]


@pytest.fixture(scope="module")
def found():
    pool = {name: Sample(features(s), Y) for name, s in SEPARATIONS.items()}
    truth = {"poor": 0.4, "fair": 0.6, "good": 0.8, "best": 0.9}
    static = {"parameters": {"poor": 1, "fair": 2, "good": 4, "best": 3}}
    return rank(pool, truth=truth, static=static, bootstrap=8)


@needs_vectors
def test_weighted_tau_is_scipys_default():
    told = json.loads(FILE.read_text(encoding="utf-8"))
    example = told["weighted_tau_example"]
    columns = [
        dict(zip(example["models"], example[key], strict=True))
        for key in ("logme_scores_from_LogME_README", "finetuned_acc_aircraft_SFDA_table")
    ]
    assert weighted_tau(*columns) == pytest.approx(example["scipy_weightedtau"], abs=1e-9)
    draw = np.random.RandomState(11)
    a = draw.randn(12)
    b = a + draw.randn(12)
    a[3] = a[4]
    pair = [dict(enumerate(map(float, values))) for values in (a, b)]
    assert weighted_tau(*pair) == pytest.approx(told["weighted_tau_random"]["weightedtau"], abs=1e-9)


def test_weighted_tau_is_over_models_in_both():
    a = {"x": 1.0, "y": 2.0, "z": 3.0, "only": 9.0}
    b = {"x": 1.0, "y": 3.0, "z": 2.0}
    assert weighted_tau(a, b) == pytest.approx(weightedtau([1, 2, 3], [1, 3, 2]).statistic)
    assert weighted_tau(a, {"x": 1.0}) is None
    assert weighted_tau(a, dict.fromkeys(a, 1.0)) is None


def test_static_rank_leaves_the_target_out():
    history = {
        "cars": {"a": 0.9, "b": 0.8, "c": 0.7},
        "pets": {"a": 0.5, "b": 0.6, "c": 0.4},
        "food": {"c": 0.9, "a": 0.1},
    }
    assert static_rank(history) == pytest.approx({"a": -0.5, "b": -0.25, "c": -2 / 3})
    assert static_rank(history, "food") == pytest.approx({"a": -0.25, "b": -0.25, "c": -1.0})


def test_every_column_is_the_score_itself(found):
    for name, separation in SEPARATIONS.items():
        assert found.column("LogME").values[name] == pytest.approx(logme(features(separation), Y))
    whole = etran({name: Sample(features(s), Y) for name, s in SEPARATIONS.items()})
    assert found.column("ETran").values == pytest.approx(whole)
    assert found.by == "LogME"
    assert found.order() == ["best", "good", "fair", "poor"]
    assert found.samples == 90
    kinds = {column.name: column.kind for column in found.columns}
    assert [n for n, kind in kinds.items() if kind == "probe"] == ["KNN", "RidgeProbe", "LogisticProbe"]
    assert kinds["parameters"] == "static"


def test_what_does_not_apply_is_told_by_name(found):
    for name in ("LEEP", "NCE"):
        assert found.column(name).values == {}
        assert set(found.column(name).faults.values()) == {"not applicable: it needs probabilities"}
    assert "No value of LEEP, NCE: it needs probabilities (every model)." in str(found)


def test_a_score_that_fails_leaves_a_gap_with_its_reason():
    def risky(sample):
        if sample.name == "fair":
            raise RuntimeError("out of luck")
        return float("nan") if sample.name == "poor" else sample.features.max()

    pool = {name: Sample(features(s), Y) for name, s in SEPARATIONS.items()}
    found = rank(pool, scores=[risky, "logme"], probes=False, bootstrap=2)
    assert set(found.column("risky").values) == {"good", "best"}
    assert found.column("risky").faults == {
        "fair": "RuntimeError: out of luck",
        "poor": "its value is nan",
    }
    assert set(found.column("LogME").values) == set(SEPARATIONS)
    json.loads(found.to_json())


def test_a_model_with_nan_drops_out_and_the_others_stay():
    bad = features(1.0)
    bad[7, 2] = np.nan
    pool = {"bad": Sample(bad, Y), "good": Sample(features(3.0), Y), "poor": Sample(features(0.1), Y)}
    found = rank(pool, bootstrap=2)
    assert found.order() == ["good", "poor"]
    assert "sample 7 is NaN" in found.column("LogME").faults["bad"]


def test_a_model_that_does_not_load_or_breaks_a_score_of_the_pool_leaves_the_others():
    def gone():
        raise OSError("the disk is away")

    def broken():
        raise OSError("no chunk")

    said = np.full((90, 2), np.nan)
    holed = features(1.0)
    holed[7, 2] = np.nan
    sound = {"good": Sample(features(3.0), Y), "poor": Sample(features(0.1), Y)}
    ill = {
        "gone": gone,
        "said": lambda: Sample(features(1.0), Y, said),
        "holed": Sample(holed, Y),
        "chunks": Sample(broken, Y),
    }
    found = rank(Pool({**ill, **sound}), bootstrap=2)
    assert found.order() == ["good", "poor"]
    assert found.column("ETran").values == etran(sound)
    assert found.column("ETran").faults["chunks"] == "OSError: no chunk"
    assert "sample 7 is NaN" in found.column("ETran").faults["holed"]
    assert found.column("LogME").faults["gone"] == "OSError: the disk is away"
    assert found.column("KNN").faults["said"].startswith("a probability of sample 0")
    with pytest.raises(ValueError, match=r"has a value for any model; the first: .*the disk is away"):
        rank(Pool({"gone": gone}), bootstrap=0)


def test_ties_within_rounding_are_named_and_no_disagreement_is_made_of_them():
    twins = rank({name: Sample(features(1.0), Y) for name in "abc"}, scores="logme", bootstrap=2)
    assert twins.sentence().startswith(
        "Start from a: LogME puts it first of 3 models, level with b, c, and in 33%"
    )
    assert twins.sentence().endswith("the plain RidgeProbe would have said the same, level with b, c.")

    def noisy(sample):
        return 2.0 + {"a": 0.0, "b": 1e-15, "c": -1.0}[sample.name]

    pool = {name: Sample(features(1.0), Y) for name in "abc"}
    static = {"parameters": {"a": 3, "b": 1, "c": 2}}
    found = rank(pool, scores=[noisy], probes=False, static=static, bootstrap=2)
    assert found.order() == ["a", "b", "c"]
    assert found.column().best() == ["a", "b"]
    assert found.column().places() == {"a": 1.5, "b": 1.5, "c": 3.0}
    assert found.firsts() == {"a": 0.5, "b": 0.5, "c": 0.0}
    assert [row[0] for row in model_rows(found)] == ["#", "1", "1", "3"]
    assert weighted_tau({"a": 2.0, "b": 2.0 + 1e-15}, {"a": 0.0, "b": 1.0}) is None
    static = {"parameters": {"a": 1, "b": 3, "c": 2}}
    found = rank(pool, scores=[noisy], probes=False, static=static, bootstrap=0)
    assert found.sentence().endswith("the ranking by parameters would have said b, which is level with it.")
    static = {"parameters": {"a": 3, "b": 1, "c": 3}}
    by = rank(pool, scores=[noisy], probes=False, static=static, bootstrap=0)
    assert by.sentence().endswith("the ranking by parameters would have said the same, level with c.")


def test_one_model_alone_is_no_choice():
    alone = rank({"one": Sample(features(1.0), Y)}, scores="logme", bootstrap=3)
    assert alone.sentence() == (
        "Start from one: it is the only model with a value of LogME, so that nothing was chosen."
    )
    assert "Start from one" in alone.page()


def test_columns_are_compared_on_the_models_that_both_rank():
    pool = {name: Sample(features(s), Y) for name, s in SEPARATIONS.items()}
    static = {
        "parameters": {"poor": 9, "fair": 8},  # nothing of the model that is chosen
        "depth": {"best": 3, "good": 4, "fair": 2},
    }
    truth = {"poor": 0.95, "fair": 0.6, "good": 0.8, "best": 0.9}
    found = rank(pool, scores="logme", static=static, truth=truth, bootstrap=0, probes=False)
    assert found.sentence().endswith("the ranking by depth, which knows 3 of them, would have said good.")
    three = {name: truth[name] for name in static["depth"]}
    depth, mine = (weighted_tau(c, three) for c in (static["depth"], found.column().values))
    assert f"depth {depth:.3f} (LogME {mine:.3f} on its 3)" in str(found)
    assert mine == 1.0 > found.tau()
    # On two models parameters have tau 1, more than LogME on four: two are no match for four.
    assert found.tau("parameters") == 1.0
    assert f"the highest is that of LogME, {found.tau():.3f}." in str(found)
    rows = {row[0]: row for row in column_rows(found)}
    assert rows["parameters"][4] == "1 (2 of 4)"


def test_scores_with_options_have_names_of_their_own():
    pool = {name: Sample(features(s), Y) for name, s in SEPARATIONS.items()}
    given = [
        partial(hscore, shrinkage=True),
        partial(hscore, shrinkage=False),
        "TMI:scale_free=true:neighbours=2",
        partial(ped, score=logme),
        "hscore",
    ]
    found = rank(pool, scores=given, probes=False, bootstrap=0, by="hscore:shrinkage=TRUE")
    names = [column.name for column in found.columns]
    assert names == [
        "HScore:shrinkage=true",
        "HScore:shrinkage=false",
        "TMI:scale_free=true:neighbours=2",
        "PED:score=logme",
        "HScore",
    ]
    x = features(3.0)
    assert found.column(names[0]).values["good"] == hscore(x, Y, shrinkage=True)
    assert found.column(names[2]).values["good"] == tmi(x, Y, scale_free=True, neighbours=2)
    assert found.column(names[3]).values["good"] == ped(x, Y, score=logme)
    assert found.column(names[1]).values == found.column("HScore").values
    (scorer,) = scorers([partial(leep)])
    assert scorer.needs == ("labels", "probabilities")
    (named,) = scorers("ped:score=nleep")
    assert named.name == "PED:score=nleep"
    bare = rank({"a": Sample(x), "b": Sample(2 * x)}, scores=[lambda s: s.features.sum()], bootstrap=0)
    assert bare.by == "<lambda>"  # what a function of one's own needs, nobody knows before


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([lambda s: 0, lambda s: 1], "two scores are called <lambda>"),
        ("hscore:shrink=true", r"no option of HScore is called 'shrink'; nearest: shrinkage"),
        ("hscore:shrinkage=yes", "shrinkage is 'yes'; it is true or false"),
        ("hscore:shrinkage", "is no option of a score; write NAME:OPTION=VALUE"),
        ("tmi:neighbours=few", "neighbours is 'few', which is no number"),
        ("ped:reference=x", "reference takes no value in text"),
        ([partial(logme, np.ones((2, 2)))], "fixes arguments by place"),
    ],
)
def test_bad_options_of_scores_are_named(scores, words):
    with pytest.raises(ValueError, match=words):
        scorers(scores)


def test_the_selector_refuses_labels_beside_a_pool():
    pool = Pool({name: Sample(features(s), Y) for name, s in SEPARATIONS.items()})
    assert ModelSelector(bootstrap=0).fit(pool).best_ == "best"
    with pytest.raises(ValueError, match="a Pool brings its labels"):
        ModelSelector().fit(pool, Y)


def test_halves_keep_half_of_each_class_and_no_sample_twice():
    y = np.array(["a"] * 10 + ["b"] * 5 + ["c"])
    x = np.arange(16.0)[:, None]
    part = half(Sample(x, y), 3)
    assert np.bincount(part.labels).tolist() == [5, 3, 1]
    assert len(set(part.features[:, 0])) == 9
    other = half(Sample(-x, y), 3)
    assert (other.features == -part.features).all()  # the same samples for every model


def test_the_spread_of_a_mean_over_halves_is_that_over_samples_drawn_anew():
    """The variance of half-sample means is s^2 / N, as that of a bootstrap."""
    x = np.random.default_rng(0).standard_normal((200, 1))
    y = np.zeros(200, int)
    means = [half(Sample(x, y), seed).features.mean() for seed in range(600)]
    assert np.std(means) == pytest.approx(x.std(ddof=1) / np.sqrt(200), rel=0.1)


def test_sureness_grows_with_the_gap(found):
    assert found.firsts()["best"] > 0.9
    assert sum(found.firsts().values()) == pytest.approx(1)
    assert found.places()["best"] == (1.0, 1.0)
    twins = {name: Sample(features(1.0) + 1e-9, Y) for name in ("one", "two")}
    assert rank(twins, scores="gbc", probes=False, bootstrap=6).firsts() == {"one": 0.5, "two": 0.5}


def test_what_is_named_decides_and_is_halved_even_where_it_draws():
    pool = {name: Sample(features(s), Y) for name, s in SEPARATIONS.items()}
    found = rank(pool, scores="parc,gbc", by="parc", bootstrap=2)
    assert found.by == "PARC"
    assert found.firsts()
    assert rank(pool, scores="gbc,parc", bootstrap=2).by == "GBC"
    assert rank(pool, scores="gbc,parc", bootstrap=2).firsts("PARC") == {}


def test_the_order_of_models_and_of_their_loading_changes_nothing():
    pool = {name: Sample(features(s), Y) for name, s in SEPARATIONS.items()}
    lazy = Pool({n: lambda s=s: Sample(features(s), Y) for n, s in reversed(SEPARATIONS.items())})
    one, two = (rank(p, scores="logme,gbc,etran", bootstrap=3, probes=False) for p in (pool, lazy))
    assert one.order() == two.order()
    assert one.firsts() == two.firsts()
    assert one.places("GBC") == two.places("GBC")
    assert one.column("ETran").values == pytest.approx(two.column("ETran").values)


def test_no_more_than_one_sample_is_alive():
    alive: list[ref] = []
    most = 0

    def load(separation):
        nonlocal most
        sample = Sample(features(separation), Y)
        alive.append(ref(sample._features))
        most = max(most, sum(one() is not None for one in alive))
        return sample

    rank(Pool({n: lambda s=s: load(s) for n, s in SEPARATIONS.items()}), bootstrap=2)
    assert len(alive) > len(SEPARATIONS)
    assert most <= 2  # the one that is let go of and the one that takes its place


def test_truth_and_static_baseline_are_weighed(found):
    assert found.tau() == 1.0
    assert found.tau("parameters") < 1
    assert found.sentence().startswith("Start from best: LogME puts it first of 4 models, and in 100%")
    assert found.sentence().endswith("the ranking by parameters would have said good.")
    assert "best is the best, as chosen here." in str(found)
    assert f"have parameters {found.tau('parameters'):.3f}: none does as well." in str(found)


def test_a_static_ranking_that_does_as_well_is_said_to():
    pool = {name: Sample(features(s), Y) for name, s in SEPARATIONS.items()}
    truth = {"poor": 0.9, "fair": 0.6, "good": 0.8, "best": 0.4}
    history = {"cars": truth, "pets": truth}
    found = rank(pool, scores="logme", truth=truth, history=history, bootstrap=2)
    assert found.tau("static rank") == 1.0
    assert "never look at the target have static rank 1.000: static rank does as well." in str(found)


def test_json_is_whole_and_strict(found):
    told = json.loads(found.to_json())
    assert told["order"] == found.order()
    assert told["agreement"]["columns"][0] == found.columns[0].name
    size = len(found.columns)
    assert np.shape(told["agreement"]["tau"]) == (size, size)
    at = told["agreement"]["columns"].index("LogME")
    assert told["agreement"]["tau"][at][at] == 1.0
    assert told["columns"]["LogME"]["seconds"].keys() == SEPARATIONS.keys()


def test_the_selector_is_an_estimator():
    pool = {name: features(s) for name, s in SEPARATIONS.items()}
    selector = clone(ModelSelector(score="hscore", bootstrap=4)).fit(pool, Y)
    assert selector.ranking_ == ["best", "good", "fair", "poor"]
    assert selector.best_ == "best"
    assert selector.predict(pool) is pool["best"]
    assert ModelSelector(logme, bootstrap=0).fit(pool, Y).scores_["fair"] == logme(pool["fair"], Y)
    assert ModelSelector().get_params() == {"score": "logme", "bootstrap": 20, "seed": 0}


def test_regression_and_several_labels_rank_by_what_takes_them():
    x = np.random.default_rng(0).standard_normal((60, 3))
    numbers = x[:, :2] + 0.01
    found = rank({"told": Sample(x, numbers), "noise": Sample(x[::-1], numbers)}, bootstrap=2)
    assert found.order() == ["told", "noise"]
    assert found.order("RidgeProbe") == ["told", "noise"]
    assert "needs one class" in found.column("GBC").faults["told"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pool": {}}, "holds no models"),
        ({"pool": {"a": np.ones((4, 2))}}, r"a: a pool maps names to Sample"),
        (
            {"pool": {"a": Sample(np.ones((4, 2)), [0, 1, 0, 1]), "b": Sample(np.ones((3, 2)), [0, 1, 0])}},
            "b 3;",
        ),
        (
            {"pool": {n: Sample(np.ones((4, 2)), y) for n, y in (("a", [0, 1, 0, 1]), ("b", [0, 1, 1, 0]))}},
            "the label of sample 2 is 0 for a and 1 for b",
        ),
        ({"scores": "logmee"}, "no score of one model is called 'logmee'; nearest: LogME"),
        ({"by": "nleap"}, "no column is called 'nleap'"),
        ({"by": "LEEP"}, "LEEP has no value, for a: not applicable: it needs probabilities"),
        ({"truth": {"c": 0.5}}, "truth: no model is called 'c'"),
        ({"static": {"size": {"z": 1.0}}}, "static 'size': no model is called 'z'"),
        ({"truth": {"a": float("nan")}}, "truth: the number of a is nan"),
        ({"static": {"size": {"b": float("inf")}}}, "static 'size': the number of b is inf"),
        ({"history": {"cars": {"a": float("nan"), "b": 1.0}}}, "history, 'cars': the number of a is nan"),
        ({"static": {"logme": {"a": 1.0}}}, "static 'logme' is called as the score LogME"),
        ({"scores": "leep", "probes": False}, "no score has a value for any model; the first: LEEP, a"),
        ({"bootstrap": -1}, "bootstrap must be 0 or more"),
    ],
)
def test_faults_are_named(change, words):
    draw = np.random.default_rng(0)
    pool = {name: Sample(draw.standard_normal((8, 2)), np.arange(8) % 2) for name in "ab"}
    with pytest.raises(ValueError, match=words):
        rank(**{"pool": pool, "bootstrap": 1, **change})
