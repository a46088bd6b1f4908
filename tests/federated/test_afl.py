import numpy as np
import pytest
from tests.federated.watched import edges, flat, run, ways_agree

from equipoise.federated import AFL, OMDTCH, Local


def test_with_one_step_a_round_it_is_the_stochastic_algorithm():
    """Gradient step on the mixture, projected ascent of the mixture on the losses at the same model."""
    finished, seen = run(AFL(step_size=5.0), 4, local=Local(steps=1, batch_size=8, learning_rate=0.2))
    mixture = np.full(5, 0.2)
    for one in seen:
        np.testing.assert_allclose(one.step, mixture @ one.updates, rtol=1e-9, atol=1e-14)
        raised = mixture + 5.0 * one.losses("loss_during")
        ordered = np.sort(raised)[::-1]
        levels = (ordered.cumsum() - 1) / np.arange(1, 6)
        mixture = np.maximum(raised - levels[ordered > levels][-1], 0)
    assert mixture.min() == 0
    average = np.mean([flat(one.round.parameters) + one.step for one in seen], 0)
    found = flat(dict(finished.outputs["average"].named_parameters()))
    np.testing.assert_allclose(found, average, rtol=1e-9, atol=1e-14)


def test_it_is_omd_tch_by_projection():
    one, other = (run(system, 3)[1][-1].step for system in (AFL(), OMDTCH(geometry="projected")))
    np.testing.assert_array_equal(one, other)


def test_the_worst_client_gains_over_the_first_mixture():
    worst = []
    for step_size in (1e-9, 0.1):
        _, seen = run(AFL(step_size=step_size, losses="before"), 60)
        worst.append(seen[-1].losses("loss").max())
    assert worst[1] < worst[0]


def test_hard_rounds():
    edges(AFL())


def test_both_ways_of_training_agree():
    ways_agree(AFL(step_size=1.0))


def test_rates_must_be_positive():
    with pytest.raises(ValueError, match="step_size"):
        AFL(step_size=0.0)
