import numpy as np
import pytest
import torch
from tests.federated.watched import WHOLE, answers, digits, edges, flat, invented, run, ways_agree

from equipoise.federated import OMDTCH, AdaOMDTCH, Participation, federate
from equipoise.federated.adaomdtch import iterates_of


def written_out(models, losses):
    """The conversion on plain lists: the average of what is kept."""
    kept = []  # [model, losses, weight]
    for model, found in zip(models, losses, strict=True):
        better = [one for one in kept if (one[1] <= found).all()]
        for one in better:
            one[2] += 1 / len(better)
        if not better:
            beaten = [one for one in kept if (one[1] >= found).all()]
            kept = [one for one in kept if not any(one is other for other in beaten)]
            kept.append([model, found, 1 + sum(one[2] for one in beaten)])
    return sum(one[2] * one[0] for one in kept) / len(models), len(kept)


@pytest.mark.parametrize("geometry", ["exponentiated", "projected"])
def test_the_adaptive_average_is_that_of_the_definition(geometry):
    finished, seen = run(AdaOMDTCH(step_size=3.0, geometry=geometry), 25, evaluate_every=25)
    models = [flat(one.round.parameters) for one in seen]
    wanted, kept = written_out(models, [one.losses("loss_during") for one in seen])
    assert kept > 2
    assert seen[-1].outcome.notes == {"iterates": kept}
    found = flat(dict(finished.outputs["adaptive"].named_parameters()))
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-12)
    assert seen[-1].outcome.state["weights"].sum() == pytest.approx(25)


def test_steps_and_the_uniform_average_are_those_of_omd_tch():
    one, other = (run(system, 3)[0] for system in (AdaOMDTCH(), OMDTCH()))
    assert set(one.outputs) == {"adaptive", "average"}
    for a, b in ((one.model, other.model), (one.outputs["average"], other.outputs["average"])):
        assert torch.equal(
            torch.nn.utils.parameters_to_vector(a.parameters()),
            torch.nn.utils.parameters_to_vector(b.parameters()),
        )


def test_it_holds_copies_and_not_references():
    """The live model changes in place; what is stored does not."""
    system, round = AdaOMDTCH(), invented(np.eye(2), [1.0, 2.0])
    state = answers(system, round).state
    round.parameters["w"].fill_(7.0)
    assert iterates_of(state)[0].tensors["w"].tolist() == [0, 0]
    assert system.server.outputs(state, round.parameters)["adaptive"]["w"].tolist() == [0, 0]


def test_of_more_models_than_fit_the_nearest_become_one_with_the_same_average():
    few, many = (run(AdaOMDTCH(step_size=3.0, max_iterates=most), 25, evaluate_every=25) for most in (2, 32))
    assert len(few[1][-1].outcome.state["weights"]) <= 2
    assert few[1][-1].outcome.state["weights"].sum() == pytest.approx(25)
    assert len(many[1][-1].outcome.state["weights"]) > 2


def test_an_absent_client_counts_with_its_last_loss_and_before_that_with_the_mean():
    _, seen = run(AdaOMDTCH(), 5, participation=Participation(count=2))
    known = np.full(5, np.nan)
    for one in seen:
        places = [one.round.everyone.index(name) for name in one.round.names]
        known[places] = one.losses("loss_during")
        np.testing.assert_array_equal(one.outcome.state["known"].numpy(), known)
        stored = one.outcome.state["losses"]
        assert bool(stored.isfinite().all())
    wanted = np.where(np.isnan(known), one.losses("loss_during").mean(), known)
    assert any(np.allclose(row, wanted) for row in stored.numpy()) or len(stored) < len(seen)


def test_a_run_goes_on_from_its_folder_with_the_same_models(tmp_path):
    settings = {"local": WHOLE, "evaluate_every": 3, "test": False, "batching": "loop"}
    whole = federate(digits(), AdaOMDTCH(step_size=3.0), rounds=6, out=tmp_path / "a", **settings)
    federate(digits(), AdaOMDTCH(step_size=3.0), rounds=3, out=tmp_path / "b", **settings)
    parts = federate(digits(), AdaOMDTCH(step_size=3.0), rounds=6, out=tmp_path / "b", **settings)
    for name in ("adaptive", "average"):
        one, other = (
            torch.nn.utils.parameters_to_vector(run.outputs[name].parameters()) for run in (whole, parts)
        )
        assert torch.equal(one, other)


def test_hard_rounds():
    edges(AdaOMDTCH())


def test_both_ways_of_training_agree():
    ways_agree(AdaOMDTCH(step_size=1.0))


def test_at_least_one_model_is_kept():
    with pytest.raises(ValueError, match="max_iterates is 0"):
        AdaOMDTCH(max_iterates=0)
