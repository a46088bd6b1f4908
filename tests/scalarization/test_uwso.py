import math

import pytest
import torch

from equipoise.scalarization import UWSO
from equipoise.testing.ask import weigh


def test_weights_are_a_softmax_over_the_inverse_losses():
    """As a public implementation for LibMTL has it: softmax((1 / (loss + 1e-8)) / T), held fixed."""
    losses = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    raw = [math.exp(1 / loss / 2) for loss in (0.5, 1.0, 4.0)]
    found = weigh(UWSO(temperature=2.0), losses)
    assert found.tolist() == pytest.approx([value / sum(raw) for value in raw])
    assert UWSO(temperature=2.0)(losses).item() == pytest.approx(float(found @ losses))


def test_temperature_leads_from_the_smallest_loss_to_the_mean():
    losses = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    assert weigh(UWSO(temperature=1e-4), losses).tolist() == pytest.approx([1, 0, 0])
    assert weigh(UWSO(temperature=1e9), losses).tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("least", [0.0, 1e-320, 1e-12])
def test_losses_that_vanish_take_the_weight_and_share_it(least):
    losses = torch.tensor([least, 1.0, least], dtype=torch.float64)
    assert weigh(UWSO(), losses).tolist() == pytest.approx([0.5, 0, 0.5])


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="'b' = -1"):
        UWSO()(torch.tensor([1.0, -1.0]), names=("a", "b"))
    with pytest.raises(ValueError, match="temperature is 0"):
        UWSO(temperature=0)
