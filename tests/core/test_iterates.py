import pytest
import torch

from equipoise.core.iterates import Iterate, insert, thin, weighted_mean


def iterate(value, losses, weight=1.0):
    return Iterate({"w": torch.tensor([value])}, torch.tensor(losses, dtype=torch.float64), weight)


def stored(*rounds):
    kept = []
    for value, losses in rounds:
        kept = insert(kept, iterate(value, losses))
    return kept


def test_a_dominated_one_leaves_its_weight_to_those_that_dominate_it():
    kept = stored((1.0, [1.0, 3.0]), (2.0, [3.0, 1.0]), (3.0, [4.0, 4.0]))
    assert [one.weight for one in kept] == [1.5, 1.5]


def test_one_that_dominates_inherits_the_weights():
    kept = stored((1.0, [3.0, 3.0]), (2.0, [2.0, 5.0]), (3.0, [1.0, 1.0]), (4.0, [0.0, 2.0]))
    assert [one.weight for one in kept] == [3, 1]
    assert weighted_mean(kept)["w"].item() == pytest.approx(3.25)


def test_thinning_keeps_the_average_and_merges_the_nearest():
    kept = stored((1.0, [0.0, 9.0]), (2.0, [5.0, 5.0]), (4.0, [5.1, 4.9]), (8.0, [9.0, 0.0]))
    fewer = thin(kept, 3)
    assert [one.tensors["w"].item() for one in fewer] == [1, 8, 3]
    assert weighted_mean(fewer)["w"].item() == pytest.approx(weighted_mean(kept)["w"].item())
    assert thin(kept, 4) == kept


def test_nothing_handed_in_is_changed():
    kept = stored((1.0, [0.0, 9.0]), (2.0, [5.0, 5.0]))
    before = [(one.weight, one.tensors["w"].clone()) for one in kept]
    insert(kept, iterate(3.0, [9.0, 9.0]))
    thin(kept, 1)
    assert [(one.weight, one.tensors["w"]) for one in kept] == before


def test_half_precision_is_summed_wider():
    kept = [
        Iterate({"w": torch.full((1,), 1000.0).half()}, torch.tensor([float(i)]), 1.0) for i in range(200)
    ]
    mean = weighted_mean(kept)["w"]
    assert mean.dtype == torch.float16
    assert mean.item() == 1000


def test_without_iterates_there_is_no_mean():
    with pytest.raises(ValueError, match="no iterate"):
        weighted_mean([])
