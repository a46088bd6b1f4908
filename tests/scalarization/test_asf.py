import pytest
import torch

from equipoise.scalarization import ASF, SmoothTchebycheff, Tchebycheff
from equipoise.testing.ask import weigh


def test_value_and_weights_of_the_hand_example():
    """As pymoo's ASF: max of (F - utopian point) / weights. (5 - 1) / 0.8 = 5 < (2 - 0.5) / 0.2 = 7.5."""
    rule = ASF(reference={"a": 1.0, "b": 0.5})
    losses, preference = torch.tensor([5.0, 2.0]), torch.tensor([0.8, 0.2])
    assert rule(losses, preference=preference, names=("a", "b")).item() == pytest.approx(7.5)
    assert weigh(rule, losses, preference=preference, names=("a", "b")).tolist() == pytest.approx([0, 5])
    with pytest.raises(ValueError, match="'c'"):
        rule(losses, names=("a", "c"))


def test_the_minimum_over_a_concave_front_stands_in_the_preferred_proportions():
    angle = torch.linspace(0.01, torch.pi / 2 - 0.01, 50, dtype=torch.float64)
    front = torch.stack([angle.cos(), angle.sin()], 1)
    for place, point in enumerate(front):
        values = torch.stack([ASF()(other, preference=point / point.sum()) for other in front])
        assert int(values.argmin()) == place


def test_it_is_tchebycheff_at_the_inverse_preference():
    """Ma et al. 2018: max f_i / p_i; the inverse, scaled to sum 1, divides the value by a constant."""
    losses, preference = torch.tensor([1.0, 4.0, 2.0]), torch.tensor([0.2, 0.5, 0.3])
    inverse = (1 / preference) / (1 / preference).sum()
    expected = Tchebycheff()(losses, preference=inverse) * (1 / preference).sum()
    torch.testing.assert_close(ASF()(losses, preference=preference), expected)


def test_aspirations_above_the_front_are_overfulfilled_evenly():
    """Wierzbicki 1980: a reference that can be reached is legal; the value is then negative."""
    losses = torch.tensor([1.0, 2.0])
    assert ASF(reference=5.0)(losses).item() == pytest.approx(-6)
    assert weigh(ASF(reference=5.0), losses).tolist() == pytest.approx([0, 2])


def test_a_temperature_smooths_the_worst():
    losses = torch.tensor([1.0, 1.2], dtype=torch.float64)
    smooth = ASF(temperature=0.1)(losses)
    assert 2.4 < float(smooth) < 2.4 + 0.1 * 0.6931472
    expected = SmoothTchebycheff(temperature=0.1)(4 * losses)  # 1 / p = 2 in place of p = 1/2
    torch.testing.assert_close(smooth, expected)


def test_a_preference_of_zero_counts_as_the_floor():
    weights = weigh(ASF(floor=1e-3), torch.tensor([1.0, 1.0]), preference=torch.tensor([1.0, 0.0]))
    assert weights.tolist() == pytest.approx([0, 1e3])


@pytest.mark.parametrize(("option", "value"), [("temperature", -1.0), ("floor", 0.0)])
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} is {value}"):
        ASF(**{option: value})
