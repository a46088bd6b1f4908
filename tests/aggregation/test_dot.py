import copy
import io

import pytest
import torch
from torch import nn

from equipoise.aggregation import DOT
from equipoise.core.errors import NonFiniteDirection


def leaf(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def two(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    output = model(x)
    return {"task": output.square().mean(), "distillation": (output - 1).abs().mean()}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def inputs(i: int) -> torch.Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(i), dtype=torch.float64)


def test_two_steps_by_hand():
    """Zhao et al. 2023, algorithm 1; mu = 0.9, Delta = 0.075: v_task = 1, 1.825 and v_kd = 2, 3.95."""
    w = leaf(1.0)
    optimizer = DOT([w], lr=0.1)
    seen = []
    for _ in range(2):
        optimizer.step({"task": w.sum(), "distillation": 2 * w.sum()})
        seen.append(w.item())
    assert seen == pytest.approx([1 - 0.1 * 3, 0.7 - 0.1 * (1.825 + 3.95)])


def test_weight_decay_joins_the_task_alone():
    """The same two steps by the authors' engine/dot.py with weight_decay=0.1, run once: 0.69, 0.09735."""
    w = leaf(1.0)
    optimizer = DOT([w], lr=0.1, weight_decay=0.1)
    seen = []
    for _ in range(2):
        optimizer.step({"distillation": 2 * w.sum(), "task": w.sum()})
        seen.append(w.item())
    assert seen == pytest.approx([0.69, 0.09735])


def test_a_parameter_of_one_objective_has_the_mean_momentum():
    """The authors' code gives a private parameter (mu_task + mu_kd) / 2 = mu."""
    shared, head = leaf(1.0), leaf(1.0)
    optimizer = DOT([shared, head], lr=0.1, momentum=0.5, delta=0.25)
    for _ in range(2):
        optimizer.step({"task": (shared + head).sum(), "distillation": shared.sum()})
    assert head.item() == pytest.approx(1 - 0.1 * (1 + 1.5))
    assert shared.item() == pytest.approx(1 - 0.1 * (2 + 1.25 + 1.75))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_equal_momenta_are_plain_momentum(nesterov, decay):
    """With Delta = 0 the sum of the buffers is the buffer of the sum."""
    ours, plain = network(), network()
    optimizer = DOT(ours.parameters(), lr=0.1, delta=0.0, weight_decay=decay, nesterov=nesterov)
    other = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=decay, nesterov=nesterov)
    for i in range(5):
        optimizer.step(two(ours, inputs(i)))
        other.zero_grad()
        torch.stack(list(two(plain, inputs(i)).values())).sum().backward()
        other.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_one_objective_is_plain_momentum_with_its_own_name():
    w, plain = leaf(1.0, -2.0), leaf(1.0, -2.0)
    optimizer = DOT([w], lr=0.1, momenta={"task": 0.7}, dampening=0.3)
    other = torch.optim.SGD([plain], lr=0.1, momentum=0.7, dampening=0.3)
    for _ in range(4):
        optimizer.step({"task": w.square().sum()})
        other.zero_grad()
        plain.square().sum().backward()
        other.step()
    torch.testing.assert_close(w, plain)


def test_three_objectives_have_three_momenta():
    w = leaf(0.0)
    optimizer = DOT([w], lr=1.0, momenta={"a": 0.0, "b": 0.5, "c": 0.9})
    for _ in range(2):
        optimizer.step({"a": w.sum(), "b": 10 * w.sum(), "c": 100 * w.sum()})
    assert w.item() == pytest.approx(-(1 + 10 + 100) - (1 + 15 + 190))


def test_an_absent_objective_keeps_its_buffer_and_moves_nothing():
    w = leaf(0.0)
    optimizer = DOT([w], lr=1.0, momenta={"a": 0.5, "b": 0.9})
    optimizer.step({"a": w.sum(), "b": 10 * w.sum()})
    optimizer.step({"a": w.sum(), "b": None})
    assert w.item() == pytest.approx(-11 - 1.5)
    assert optimizer.state[w]["momentum"]["b"].item() == 10


def test_a_saved_optimizer_goes_on_bit_for_bit():
    model = network()
    optimizer = DOT(model.parameters(), lr=0.1, weight_decay=0.01)
    for i in range(3):
        optimizer.step(two(model, inputs(i)))
    kept = io.BytesIO()
    torch.save(optimizer.state_dict(), kept)
    kept.seek(0)
    twin = copy.deepcopy(model)
    resumed = DOT(twin.parameters(), lr=9.0)
    resumed.load_state_dict(torch.load(kept, weights_only=True))
    for i in range(3, 6):
        optimizer.step(two(model, inputs(i)))
        resumed.step(two(twin, inputs(i)))
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_function_gives_the_losses_and_groups_have_their_own_rates():
    slow, fast = leaf(1.0), leaf(1.0)
    optimizer = DOT([{"params": [slow], "lr": 0.1}, {"params": [fast], "lr": 0.2}])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    losses = optimizer.step(lambda: {"task": (slow + fast).sum(), "distillation": (slow + fast).sum()})
    assert losses["task"].item() == 2.0
    assert (slow.item(), fast.item()) == pytest.approx((0.8, 0.6))
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.1])
    assert slow.grad is None


def test_a_gradient_that_is_not_finite_moves_nothing():
    w = leaf(0.0, 1.0)
    optimizer = DOT([w], lr=0.1)
    with pytest.raises(NonFiniteDirection, match="'distillation'; no parameter was moved"):
        optimizer.step({"task": w.sum(), "distillation": w.sqrt().sum()})
    assert w.tolist() == [0.0, 1.0]
    assert not optimizer.state


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 0.9, "delta": 0.2}, r"momentum of 'distillation' is 1.1"),
        ({"momenta": {"a": -0.1}}, r"momentum of 'a' is -0.1"),
        ({"momenta": {}}, "momenta is empty"),
        ({"lr": -1.0}, r"lr is -1.0"),
        ({"nesterov": True, "dampening": 0.5}, "nesterov goes with dampening=0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DOT([leaf(1.0)], **options)


def test_an_unknown_objective_is_refused_with_its_neighbours():
    w = leaf(1.0)
    with pytest.raises(ValueError, match=r"no momentum is called 'distil'.*nearest: distillation.*momenta="):
        DOT([w]).step({"distil": w.sum()})
