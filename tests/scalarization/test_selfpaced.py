import math

import pytest
import torch

from equipoise.core.step import Step
from equipoise.scalarization import SelfPaced
from equipoise.testing.ask import weigh

LOSSES = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)


def test_weights_minimise_the_losses_with_the_entropy():
    """w_i proportional to exp(-f_i / lambda) has the least value over the simplex, and gives it."""
    rule = SelfPaced(pace=2.0)
    weights = weigh(rule, LOSSES)
    raw = [math.exp(-loss / 2) for loss in LOSSES.tolist()]
    assert weights.tolist() == pytest.approx([value / sum(raw) for value in raw])

    def value(shares: torch.Tensor) -> float:
        return float(shares @ LOSSES + 2.0 * (shares * (3 * shares).log()).sum())

    assert rule(LOSSES).item() == pytest.approx(value(weights))
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        other = torch.randn(3, generator=generator, dtype=torch.float64).softmax(0)
        assert value(other) >= value(weights)


def test_the_pace_grows_with_the_epochs_and_admits_the_hard_ones():
    rule, shares = SelfPaced(pace=0.5, growth=4.0), []
    for _ in range(6):
        shares.append(float(weigh(rule, LOSSES)[2]))
        rule.update(Step(("a", "b", "c"), LOSSES, None))
        rule.update(Step(("a", "b", "c"), LOSSES, None), epoch_ended=True)
    assert float(rule.lambda_) == 0.5 * 4.0**6
    assert shares == sorted(shares)
    assert shares[0] < 1e-3
    assert shares[-1] == pytest.approx(1 / 3, abs=3e-3)


@pytest.mark.parametrize(("option", "value"), [("pace", 0.0), ("growth", 0.5)])
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} is {value}"):
        SelfPaced(**{option: value})
