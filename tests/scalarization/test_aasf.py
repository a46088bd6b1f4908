import pytest
import torch

from equipoise.scalarization import AASF, ASF
from equipoise.testing.ask import weigh


def test_value_and_weights_of_the_hand_example():
    """As pymoo's AASF: ASF + rho * sum of (F - utopian point) / weights = 7.5 + 0.1 * (5 + 7.5)."""
    rule = AASF(rho=0.1, reference={"a": 1.0, "b": 0.5})
    losses, preference = torch.tensor([5.0, 2.0]), torch.tensor([0.8, 0.2])
    assert rule(losses, preference=preference, names=("a", "b")).item() == pytest.approx(8.75)
    found = weigh(rule, losses, preference=preference, names=("a", "b"))
    assert found.tolist() == pytest.approx([0.125, 5.5])


def test_without_the_sum_it_is_asf():
    losses = torch.tensor([1.0, 4.0, 2.0])
    torch.testing.assert_close(weigh(AASF(rho=0.0), losses), weigh(ASF(), losses))


def test_of_points_that_are_equally_bad_it_takes_the_one_that_is_better_elsewhere():
    """Wierzbicki 1980: the sum excludes weakly optimal points, which ASF cannot tell from the optimal."""
    weak, strong = torch.tensor([1.0, 0.9]), torch.tensor([1.0, 0.2])
    assert ASF()(weak) == ASF()(strong)
    assert AASF()(weak) > AASF()(strong)


def test_a_negative_rho_is_refused():
    with pytest.raises(ValueError, match=r"rho is -0\.1"):
        AASF(rho=-0.1)
