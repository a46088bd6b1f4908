"""mixtures: a study's trainings under fixed weights as runs."""

import numpy as np
import pytest

from equipoise.core.problem import Metric
from equipoise.study.mixtures import mixtures, runs_of
from equipoise.study.results import Outcome, Run, Trial, TrialResult


def result(kind, rule, weights, rate, seed, **values):
    return TrialResult(Trial(kind, rule, rate, seed, weights), None, Outcome(values, values))


def study(better, trials):
    """What `load_run` gives of a folder."""
    metrics = {name: Metric("accuracy", better) for name in "ab"}
    return Run(None, "p", ("a", "b"), metrics, (), (0.1,), (0,), (), tuple(trials), 0, {}, {}, "")  # type: ignore[arg-type]


TRIALS = [
    result("rule", "Mean", None, 0.1, 0, a=0.8, b=0.6),
    result("rule", "Mean", None, 0.5, 0, a=0.1, b=0.1),
    result("rule", "UPGrad", None, 0.1, 0, a=0.9, b=0.9),
    result("fixed", "Linear", (0.25, 0.75), 0.1, 0, a=0.7, b=0.8),
    result("single", "a", None, 0.1, 0, a=0.85),
]


def test_fixed_weights_are_the_ratios_and_what_lacks_to_one_is_the_loss():
    runs = runs_of(study("higher", TRIALS))
    np.testing.assert_allclose(runs.features.p, [[0.5, 0.5], [0.25, 0.75], [1, 0]])
    np.testing.assert_allclose(runs.loss("a"), [0.2, 0.3, 0.15])
    np.testing.assert_allclose(runs.loss("b"), [0.4, 0.2, np.nan])
    assert runs.seed == ("0", "0", "0")


def test_a_metric_of_which_less_is_better_is_the_loss_as_it_is():
    np.testing.assert_allclose(runs_of(study("lower", TRIALS)).loss("a"), [0.8, 0.7, 0.85])


def test_a_metric_beyond_a_hundred_is_told():
    odd = [result("rule", "Mean", None, 0.1, s, a=400.0, b=1.0) for s in (0, 1)]
    with pytest.raises(ValueError, match="accuracy of 'a' goes beyond 100"):
        runs_of(study("higher", odd))


def test_a_folder_that_is_no_study_is_told(tmp_path):
    with pytest.raises(ValueError, match="no run folder"):
        mixtures(tmp_path)
