import math

import pytest
import torch

from equipoise.scalarization import GLS, LogSum
from equipoise.testing.ask import weigh

LOSSES = torch.tensor([1.0, 4.0], dtype=torch.float64)


def test_value_and_weights_of_the_hand_example():
    """Navon et al. 2022, SI: the sum of log f_i, as in their code."""
    assert LogSum()(LOSSES).item() == pytest.approx(math.log(4))
    assert weigh(LogSum(), LOSSES).tolist() == pytest.approx([1, 0.25])


def test_it_is_m_times_the_logarithm_of_the_geometric_mean():
    torch.testing.assert_close(LogSum()(LOSSES), 2 * GLS()(LOSSES).log())


def test_weights_follow_the_preference():
    preference = torch.tensor([0.25, 0.75], dtype=torch.float64)
    assert weigh(LogSum(), LOSSES, preference=preference).tolist() == pytest.approx([0.5, 0.375])


def test_a_unit_changes_the_update_in_nothing():
    units = torch.tensor([1e9, 1e-7], dtype=torch.float64)
    torch.testing.assert_close(weigh(LogSum(), LOSSES * units) * units, weigh(LogSum(), LOSSES))


@pytest.mark.parametrize("bad", [0.0, -2.0])
def test_a_loss_that_is_not_positive_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=f"'depth' = {bad:g}"):
        LogSum()(torch.tensor([1.0, bad]), names=("mask", "depth"))
