import pytest
import torch

from equipoise.scalarization import COSMOS, Linear
from equipoise.testing.ask import weigh


def test_value_of_the_hand_example():
    """r = (0.6, 0.8) / 1.4 and f = (3, 4) are parallel: the cosine is 1 and the mean 25 / 7."""
    preference = torch.tensor([0.6, 0.8], dtype=torch.float64) / 1.4
    value = COSMOS(lambda_=2.0)(torch.tensor([3.0, 4.0], dtype=torch.float64), preference=preference)
    assert value.item() == pytest.approx(25 / 7 - 2)


def test_value_is_that_of_the_authors_code():
    """Their code: sum of alpha_i f_i, less lamda times torch's cosine similarity of losses and alpha."""
    generator = torch.Generator().manual_seed(0)
    for m in (1, 2, 5):
        losses = torch.rand(m, generator=generator, dtype=torch.float64) + 0.05
        alpha = torch.rand(m, generator=generator, dtype=torch.float64).softmax(0)
        theirs = losses.clone().requires_grad_()
        value = (alpha * theirs).sum() - 2 * torch.nn.functional.cosine_similarity(theirs, alpha, dim=0)
        (weights,) = torch.autograd.grad(value, theirs)
        torch.testing.assert_close(COSMOS()(losses, preference=alpha), value.detach())
        torch.testing.assert_close(weigh(COSMOS(), losses, preference=alpha), weights)


def test_the_reward_turns_the_losses_without_changing_their_length():
    """The derivative of the cosine is at right angles to the losses."""
    losses = torch.tensor([0.3, 2.0, 0.9], dtype=torch.float64)
    turn = weigh(COSMOS(lambda_=3.0), losses) - weigh(Linear(), losses)
    assert abs(float(turn @ losses)) < 1e-12
    assert float(turn.sum()) < 0 < float(turn[1])  # downhill: small losses grow, the large one shrinks


@pytest.mark.parametrize("size", [1e-300, 1e-12, 1e12])
def test_the_angle_does_not_depend_on_the_size_of_the_losses(size):
    losses = torch.tensor([1.0, 4.0], dtype=torch.float64)
    value = COSMOS()(size * losses) - Linear()(size * losses)
    if size < 1:
        torch.testing.assert_close(value, COSMOS()(losses) - Linear()(losses))
    assert bool(weigh(COSMOS(), size * losses).isfinite().all())


def test_without_a_reward_it_is_linear_and_at_zero_too():
    losses, preference = torch.tensor([3.0, 1.0]), torch.tensor([0.6, 0.4])
    torch.testing.assert_close(weigh(COSMOS(lambda_=0.0), losses, preference=preference), preference)
    torch.testing.assert_close(weigh(COSMOS(), torch.zeros(2), preference=preference), preference)


def test_a_negative_reward_is_refused():
    with pytest.raises(ValueError, match="lambda_ is -1"):
        COSMOS(lambda_=-1)
