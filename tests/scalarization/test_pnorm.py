import pytest
import torch

from equipoise.scalarization import Linear, PNorm, Tchebycheff
from equipoise.testing.ask import weigh

LOSSES = torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64)
PREFERENCE = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)


def test_value_and_weights_of_the_hand_example():
    """p f = (1.5, 2): length 2.5; the weights are p times the shares (0.6, 0.8)."""
    losses = torch.tensor([3.0, 4.0])
    assert PNorm()(losses).item() == pytest.approx(2.5)
    assert weigh(PNorm(), losses).tolist() == pytest.approx([0.3, 0.4])


def test_order_one_is_linear_and_infinity_is_tchebycheff():
    """Yu 1973: the two ends of the class."""
    for order, other in ((1.0, Linear()), (float("inf"), Tchebycheff())):
        rule = PNorm(order=order)
        torch.testing.assert_close(rule(LOSSES, preference=PREFERENCE), other(LOSSES, preference=PREFERENCE))
        found = weigh(rule, LOSSES, preference=PREFERENCE)
        torch.testing.assert_close(found, weigh(other, LOSSES, preference=PREFERENCE))


def test_the_higher_the_order_the_nearer_to_the_worst():
    worst = Tchebycheff()(LOSSES, preference=PREFERENCE)
    values = [PNorm(order=order)(LOSSES, preference=PREFERENCE) for order in (1.0, 2.0, 8.0, 64.0, 1024.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(float(worst), rel=1e-3)


@pytest.mark.parametrize(("order", "place"), [(1.0, 0), (4.0, 45), (float("inf"), 45)])
def test_the_middle_of_a_concave_front_needs_a_higher_order(order, place):
    angle = torch.linspace(0, torch.pi / 2, 91, dtype=torch.float64)
    front = torch.stack([angle.cos(), angle.sin()], 1)  # a quarter circle seen from outside is concave
    values = torch.stack([PNorm(order=order)(point) for point in front])
    assert min(int(values.argmin()), 90 - int(values.argmin())) == place


@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_a_high_order_neither_underflows_nor_overflows(size):
    plain, scaled = (weigh(PNorm(order=100.0), losses) for losses in (LOSSES, size * LOSSES))
    torch.testing.assert_close(scaled, plain)


def test_a_loss_below_its_reference_is_refused_by_name():
    rule = PNorm(reference={"a": 1.0, "b": 5.0, "c": 0.0})
    with pytest.raises(ValueError, match="'b' = 4"):
        rule(LOSSES, names=("a", "b", "c"))
    assert PNorm(reference=1.0)(LOSSES, names=("a", "b", "c")).item() == pytest.approx(10**0.5 / 3)
    assert weigh(PNorm(reference=2.0), torch.full((2,), 2.0)).tolist() == [0, 0]


def test_an_order_below_one_is_refused():
    with pytest.raises(ValueError, match=r"order is 0\.5"):
        PNorm(order=0.5)
