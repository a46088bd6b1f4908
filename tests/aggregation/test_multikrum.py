from itertools import pairwise

import pytest
import torch

from equipoise.aggregation import Krum, Mean, MultiKrum


def drawn(m: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(m, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows @ rows.T


def test_one_selected_is_krum_and_all_selected_the_mean():
    for seed in range(20):
        assert torch.equal(MultiKrum(selected=1)(drawn(8, seed)), Krum()(drawn(8, seed)))
        everybody = MultiKrum(byzantine=2, selected=8)(drawn(8, seed))
        torch.testing.assert_close(everybody, Mean()(drawn(8, seed)))


def test_by_default_all_but_the_suspects_share_the_weight():
    """m = 9: f = 3, and six of the directions remain."""
    weights = MultiKrum()(drawn(9))
    assert sorted(weights.tolist()) == pytest.approx([0.0] * 3 + [1 / 6] * 6)


def test_a_larger_selection_holds_the_smaller_one():
    chosen = [set(MultiKrum(selected=q)(drawn(8)).nonzero().flatten().tolist()) for q in range(1, 9)]
    assert [len(one) for one in chosen] == list(range(1, 9))
    assert all(small < large for small, large in pairwise(chosen))


def test_scores_that_are_level_at_the_end_share_what_is_left():
    """On a line at 0, 1, 2, 3 with two neighbours the scores are 5, 2, 2, 5."""
    points = torch.tensor([[0.0], [1.0], [2.0], [3.0]], dtype=torch.float64)
    rule = MultiKrum(byzantine=0, selected=3)
    assert rule(points @ points.T).tolist() == pytest.approx([1 / 6, 1 / 3, 1 / 3, 1 / 6])


def test_refusals():
    with pytest.raises(ValueError, match="selected is 0"):
        MultiKrum(selected=0)
    with pytest.raises(ValueError, match="selected=5 directions are to be averaged, but there are 4"):
        MultiKrum(selected=5)(drawn(4))
    with pytest.raises(ValueError, match="byzantine=3 needs 6"):
        MultiKrum(byzantine=3)(drawn(5))
