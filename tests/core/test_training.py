"""What people do around a backward pass: clip, close over a step, train in low precision."""

import pytest
import torch
from tests.core.ranks import Net, batch, losses_of
from torch.nn.functional import cross_entropy

import equipoise
from equipoise.aggregation import UPGrad


def test_gradients_are_clipped_as_after_an_ordinary_backward():
    net = Net()
    equipoise.backward(losses_of(net, 0, 0, 1), UPGrad())
    before = torch.nn.utils.clip_grad_norm_(net.parameters(), 0.01)
    after = torch.nn.utils.get_total_norm([p.grad for p in net.parameters()])
    assert float(before) > 0.01
    assert float(after) == pytest.approx(0.01, rel=1e-3)


def test_a_closure_may_be_called_as_often_as_an_optimizer_likes():
    net, rule = Net(), UPGrad()
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.2, max_iter=6)
    seen = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        losses = losses_of(net, 0, 0, 1)
        equipoise.backward(losses, rule)
        total = torch.stack([loss.detach() for loss in losses.values()]).sum()
        seen.append(float(total))
        return total

    for _ in range(3):
        optimizer.step(closure)
    assert len(seen) > 6
    assert seen[-1] < seen[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_weights_do_not_depend_on_the_dtype_but_for_its_rounding(dtype):
    """Solvers see float64 whatever the parameters are."""
    net, wide = Net().to(dtype), Net().double()
    step = equipoise.backward(losses_in_its_dtype(net), UPGrad())
    exact = equipoise.backward(losses_in_its_dtype(wide), UPGrad())
    assert step.gramian is not None
    assert step.gramian.dtype == step.weights.dtype == torch.float64
    allowed = {torch.bfloat16: 0.05, torch.float32: 1e-4, torch.float64: 1e-9}[dtype]
    torch.testing.assert_close(step.weights, exact.weights, rtol=allowed, atol=allowed)
    assert all(p.grad is not None and p.grad.dtype == dtype for p in net.parameters())


def losses_in_its_dtype(net: Net) -> dict[str, torch.Tensor]:
    """The losses of the tests' model in the dtype of its parameters."""
    words, classes, numbers = batch(0, 0, 1)
    left, right = net(words)
    return {
        "class": cross_entropy(left, classes),
        "number": (right - numbers.to(right.dtype)).square().mean(),
        "size": left.square().mean(),
    }
