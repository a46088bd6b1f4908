import math

import pytest
import torch

from equipoise.scalarization import PBI
from equipoise.testing.ask import weigh


def test_value_and_weights_of_the_hand_example():
    """Zhang and Li 2007: f = (3, 4), the ray (1, 1): d1 = 7 / sqrt 2, d2 = 1 / sqrt 2, theta = 5."""
    losses = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert PBI()(losses).item() == pytest.approx(7 / math.sqrt(2) + 5 / math.sqrt(2))
    root = 1 / math.sqrt(2)
    assert weigh(PBI(), losses).tolist() == pytest.approx([root - 5 * root, root + 5 * root])


def test_value_from_a_reference_point_and_another_ray():
    """(f - z) = (4, 2) on the ray (3, 4) / 5: d1 = 4, the rest is (1.6, -1.2), of length 2."""
    rule = PBI(theta=0.5, reference={"a": 1.0, "b": -1.0})
    preference = torch.tensor([3 / 7, 4 / 7], dtype=torch.float64)
    losses = torch.tensor([5.0, 1.0], dtype=torch.float64)
    assert rule(losses, preference=preference, names=("a", "b")).item() == pytest.approx(4 + 0.5 * 2)
    with pytest.raises(ValueError, match="'c'"):
        rule(losses, names=("a", "c"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_on_the_ray_the_penalty_is_silent(dtype):
    """d2 has no derivative there; rounding of the losses must not make one up."""
    for size in (1e-12, 0.1, 3.0, 1e12):
        preference = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
        losses = (size * preference).to(dtype)
        weights = weigh(PBI(), losses, preference=preference)
        torch.testing.assert_close(weights, (preference / preference.norm()).to(dtype))


def test_without_a_penalty_it_is_the_projection_on_the_ray():
    preference = torch.tensor([0.6, 0.4])
    weights = weigh(PBI(theta=0.0), torch.tensor([3.0, 1.0]), preference=preference)
    torch.testing.assert_close(weights, preference / preference.norm())


def test_the_minimum_over_a_concave_front_lies_on_the_ray():
    angle = torch.linspace(0, torch.pi / 2, 181, dtype=torch.float64)
    front = torch.stack([angle.cos(), angle.sin()], 1)  # a quarter circle seen from outside is concave
    for place in range(20, 161, 20):
        preference = front[place] / front[place].sum()
        values = torch.stack([PBI()(point, preference=preference) for point in front])
        assert int(values.argmin()) == place


def test_a_negative_penalty_is_refused():
    with pytest.raises(ValueError, match="theta is -1"):
        PBI(theta=-1)
