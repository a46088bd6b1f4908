import pytest
import torch
from torch import nn

import equipoise
from equipoise.aggregation import ObjectiveMomentum, Sum
from equipoise.core.step import Step

NAMES = ("a", "b")
STEP = Step(NAMES, torch.ones(2), None)


def test_by_hand():
    """v = g at first, then b v + (1 - d) g; for a running mean b = d = 1/2."""
    rule = ObjectiveMomentum(momentum=0.5)
    rows = torch.tensor([[4.0], [0.0]]), torch.tensor([[0.0], [8.0]]), torch.tensor([[0.0], [0.0]])
    found = []
    for one in rows:
        found.append(rule(one, block="w", names=NAMES).flatten().tolist())
        rule.update(STEP)
    assert found == [[4.0, 0.0], [2.0, 4.0], [1.0, 2.0]]


def losses_of(model: nn.Linear, number: int) -> dict[str, torch.Tensor]:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(number))
    return {"a": model(x).square().mean(), "b": (model(x) - x[:, :2]).abs().mean()}


@pytest.mark.parametrize("dampening", [0.0, 0.9])
def test_under_the_sum_it_is_the_momentum_of_torch(dampening: float):
    """Momentum is linear: the sum of the objectives' momenta is the momentum of their sum."""
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 2), nn.Linear(4, 2)
    theirs.load_state_dict(ours.state_dict())
    plain = torch.optim.SGD(ours.parameters(), lr=0.05)
    heavy = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9, dampening=dampening)
    transform = ObjectiveMomentum(momentum=0.9, dampening=dampening)
    for number in range(6):
        plain.zero_grad()
        step = equipoise.backward(losses_of(ours, number), Sum(), transforms=transform, parameters=ours)
        plain.step()
        transform.update(step)
        heavy.zero_grad()
        sum(losses_of(theirs, number).values()).backward()
        heavy.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-5, atol=1e-6)


def test_without_momentum_the_rows_pass():
    rule, rows = ObjectiveMomentum(momentum=0.0), torch.randn(2, 3)
    rule(torch.ones(2, 3), block="w", names=NAMES)
    rule.update(STEP)
    assert torch.equal(rule(rows, block="w", names=NAMES), rows)


def test_a_running_mean_sees_through_noise_that_makes_single_batches_conflict():
    """The two expected directions agree; one batch in four or so says otherwise, the momenta never."""
    generator = torch.Generator().manual_seed(1)
    true = torch.tensor([[1.0, 0.2], [1.0, -0.2]], dtype=torch.float64)
    rule, single, kept = ObjectiveMomentum(momentum=0.95), [], []
    for number in range(400):
        rows = true + 1.5 * torch.randn(2, 2, generator=generator, dtype=torch.float64)
        found = rule(rows, block="w", names=NAMES)
        rule.update(STEP)
        if number >= 100:
            single.append(float(rows[0] @ rows[1]) < 0)
            kept.append(float(found[0] @ found[1]) < 0)
    assert sum(single) / len(single) > 0.25
    assert sum(kept) / len(kept) < 0.05


def test_an_absent_objective_keeps_what_it_had():
    rule = ObjectiveMomentum(momentum=0.5)
    rule(torch.tensor([[4.0], [2.0]]), block="w", names=NAMES)
    rule.update(STEP)
    rule(torch.tensor([[0.0]]), block="w", names=("b",))
    rule.update(STEP)
    assert rule(torch.zeros(2, 1), block="w", names=NAMES).flatten().tolist() == [2.0, 0.5]


def test_narrow_rows_are_kept_wide():
    """In bfloat16 alone, 256 + 1 is 256, and the mean would never move."""
    rule = ObjectiveMomentum(momentum=0.99)
    rule(torch.full((2, 1), 256.0, dtype=torch.bfloat16), block="w", names=NAMES)
    for _ in range(3):
        rule.update(STEP)
        found = rule(torch.full((2, 1), 250.0, dtype=torch.bfloat16), block="w", names=NAMES)
    rule.update(STEP)
    assert found.dtype == torch.bfloat16
    kept = rule.known("w", NAMES)[0]
    assert kept is not None
    assert float(kept) == pytest.approx(250 + 6 * 0.99**3, abs=1e-3)


def test_refusals():
    with pytest.raises(ValueError, match="momentum is 1"):
        ObjectiveMomentum(momentum=1.0)
    with pytest.raises(ValueError, match=r"dampening is -0\.1"):
        ObjectiveMomentum(dampening=-0.1)
    rule = ObjectiveMomentum()
    rule(torch.ones(2, 3), block="w", names=NAMES)
    rule.update(STEP)
    with pytest.raises(ValueError, match="block 'w' has changed: 3 numbers of 'a' are kept"):
        rule(torch.ones(2, 4), block="w", names=NAMES)
