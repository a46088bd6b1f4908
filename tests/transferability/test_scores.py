"""What every score of one model holds to: order, scale, inputs, chunks and degenerate features."""

import inspect
import math

import numpy as np
import pytest
import torch

from equipoise import transferability as room
from equipoise.core.card import cards
from equipoise.transferability import Sample, logme

SCALE = "FEATURE_SCALE_INVARIANT"


def takes_one_sample(function):
    given = list(inspect.signature(function).parameters.values())
    names = [p.name for p in given if p.kind is p.POSITIONAL_OR_KEYWORD]
    options = [p for p in given if p.kind is p.KEYWORD_ONLY]
    return names == ["features", "labels", "probabilities"] and all(p.default is not p.empty for p in options)


CARDS = {
    card.name: card
    for card in cards("transferability").values()
    if card.shape == "score" and takes_one_sample(getattr(room, card.name.lower()))
}
SCORES = {name: getattr(room, name.lower()) for name in CARDS}
TOLERANCE = {"LogisticProbe": 0.1}
"""Relative, where the order of samples decides the folds; 1e-7 for the others."""


def given(n=90, d=6, classes=3, seed=0):
    draw = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = draw.standard_normal((n, d)) + 1.5 * np.eye(classes, d)[y]
    z = np.exp(draw.standard_normal((n, 4)) + np.eye(classes, 4)[y])
    return x, y, z / z.sum(1, keepdims=True)


X, Y, P = given()
every = pytest.mark.parametrize("name", SCORES)


def test_all_scores_of_one_model_are_here():
    assert {"LogME", "LEEP", "HScore", "SFDA", "PACTran", "TMI", "PARC", "GBC"} <= set(SCORES)


@every
def test_the_order_of_samples_does_not_matter(name):
    order = np.random.default_rng(1).permutation(len(X))
    value = SCORES[name](X, Y, P)
    assert SCORES[name](X[order], Y[order], P[order]) == pytest.approx(
        value, rel=TOLERANCE.get(name, 1e-7), abs=1e-9
    )


@every
def test_a_factor_on_all_features_counts_as_the_card_says(name):
    """GBC, which says nothing of it, changes only far from the scale of 1, by its floor."""
    value = SCORES[name](X, Y, P)
    scaled = [SCORES[name](factor * X, Y, P) for factor in (3, 1e-3, 1e3)]
    if CARDS[name].promises(SCALE):
        assert scaled == pytest.approx([value] * 3, rel=1e-6, abs=1e-9)
    else:
        assert max(abs(one - value) for one in scaled) > 1e-3 * abs(value)


@every
def test_the_names_of_classes_do_not_matter(name):
    """Absent class indices leave no gap, and text is as good as numbers."""
    value = SCORES[name](X, Y, P)
    assert SCORES[name](X, 10 * Y + 7, P) == pytest.approx(value, rel=1e-9)
    assert SCORES[name](X, np.array(["ant", "bee", "cow"])[Y], P) == pytest.approx(value, rel=1e-9)


@every
def test_inputs_are_not_written_into(name):
    x, y, p = X.copy(), Y.copy(), P.copy()
    for one in (x, y, p):
        one.flags.writeable = False
    SCORES[name](x, y, p)
    SCORES[name](np.asfortranarray(x), y, p)
    assert np.array_equal(x, X)
    assert np.array_equal(y, Y)
    assert np.array_equal(p, P)


@every
def test_a_tensor_gives_what_the_array_gives(name):
    tensors = [torch.tensor(X, requires_grad=True), torch.tensor(Y), torch.tensor(P)]
    assert SCORES[name](*tensors) == pytest.approx(SCORES[name](X, Y, P), rel=1e-9)


@every
def test_chunks_give_what_the_array_gives(name):
    streamed = Sample(lambda: np.array_split(X, 7), Y, P)
    assert SCORES[name](streamed) == pytest.approx(SCORES[name](X, Y, P), rel=1e-9)


@every
def test_the_value_is_a_plain_number(name):
    assert type(SCORES[name](X, Y, P)) is float


def degenerate():
    alone = np.where(np.arange(90) == 0, 3, Y)
    collinear = X.copy()
    collinear[:, 1] = collinear[:, 0]
    return {
        "a class of one sample": (X, alone, P),
        "a constant feature": (np.c_[X, np.full(90, 5.0)], Y, P),
        "constant features": (np.ones((90, 6)), Y, P),
        "a feature twice": (collinear, Y, P),
        "fewer samples than features": given(n=12, d=40),
        "a sample for each class": given(n=3, classes=3),
        "one class": (X, np.zeros(90, int), P),
        "one sample": (X[:1], Y[:1], P[:1]),
        "two samples": (X[:2], Y[:2], P[:2]),
        "equal samples": (np.repeat(X[:3], 30, axis=0), np.repeat(Y[:3], 30), np.repeat(P[:3], 30, axis=0)),
        "a source class that none predicts": (X, Y, np.c_[P, np.zeros(90)]),
        "large features": (1e6 * X, Y, P),
        "small features": (1e-6 * X, Y, P),
        "a large mean": (X + 1e4, Y, P),
    }


def value_or_fault(score, sample):
    """The value, or what the error says."""
    try:
        return score(sample)
    except ValueError as fault:
        return str(fault)


@every
@pytest.mark.parametrize("case", degenerate())
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_degenerate_samples_give_a_finite_number_or_name_the_fault(name, case):
    x, y, p = degenerate()[case]
    found = value_or_fault(SCORES[name], Sample(x, y, p, name="resnet"))
    assert math.isfinite(found) if isinstance(found, float) else "resnet" in found


@every
@pytest.mark.parametrize("what", ["features", "labels", "probabilities"])
def test_nan_is_refused_with_model_and_sample(name, what):
    inputs = {"features": X.copy(), "labels": Y.astype(float), "probabilities": P.copy()}
    inputs[what].reshape(90, -1)[5, 0] = np.nan
    if what != "labels":
        inputs["labels"] = Y
    if what not in CARDS[name].needs and what == "features":
        return
    with pytest.raises(ValueError, match=r"resnet: .*(sample|label) 5"):
        SCORES[name](Sample(**inputs, name="resnet"))


@every
def test_what_is_missing_is_named(name):
    for what in CARDS[name].needs:
        inputs = {"features": X, "labels": Y, "probabilities": P, what: None}
        with pytest.raises(ValueError, match=f"resnet: this score needs {what}"):
            SCORES[name](Sample(**inputs, name="resnet"))


@pytest.mark.parametrize("shape", [(200, 8), (30, 50)])
def test_logme_of_several_columns_is_the_mean_of_the_columns(shape):
    """Regression and several labels at once: each column has its own alpha and beta."""
    draw = np.random.default_rng(2)
    x = draw.standard_normal(shape)
    numbers = x[:, :3] @ draw.standard_normal((3, 4)) + 0.1 * draw.standard_normal((len(x), 4))
    for labels in (numbers, (numbers > 0).astype(float)):
        single = [logme(Sample(x, labels[:, k], numbers=True)) for k in range(4)]
        assert logme(x, labels) == pytest.approx(np.mean(single), rel=1e-9)


def test_logme_of_two_classes_is_that_of_their_indicator():
    """The columns of 0 and 1 of two classes each; both are given at once as two labels."""
    y = Y % 2
    assert logme(X, y) == pytest.approx(logme(X, np.c_[y == 0, y == 1].astype(float)), rel=1e-9)


def test_logme_prefers_features_that_hold_the_numbers():
    draw = np.random.default_rng(3)
    x = draw.standard_normal((100, 5))
    t = x @ draw.standard_normal(5)
    assert logme(x, t) > logme(draw.standard_normal((100, 5)), t)
