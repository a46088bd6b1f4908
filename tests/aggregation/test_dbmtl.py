"""DBMTL against LibMTL's arithmetic, run by hand in float64, and against its paper."""

import pytest
import torch
from tests.core.ranks import Net, losses_of

import equipoise
from equipoise.aggregation import DBMTL
from equipoise.testing.ask import advance, ask

ROWS = (
    torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64),
    torch.tensor([[1.0, 1.0], [0.0, -2.0]], dtype=torch.float64),
)
LOSSES = torch.tensor([[1.0, 4.0], [0.5, 3.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, ([0.05857867317689294, 0.14142131482310757], [0.1850760306402766, -0.18262851186723342])),
        (
            {"beta": 0.5, "sigma": 0.5},
            ([0.2928932458845177, 0.7071067341154825], [1.4087903796325327, -0.7869814388263439]),
        ),
    ],
)
def test_two_steps_are_those_of_libmtl(options, wanted):
    """LibMTL's DB_MTL, which adds 1e-8 to losses and lengths."""
    rule = DBMTL(**options)
    for rows, losses, update in zip(ROWS, LOSSES, wanted, strict=True):
        found = ask(rule, rows, losses=losses).update
        assert found.tolist() == pytest.approx(update, rel=1e-5)
        advance(rule, rows, losses=losses)


def test_without_an_average_directions_of_log_losses_are_made_equally_long():
    """Lin et al. 2023: the sum of the directions of log f_i, each as long as the longest of them."""
    rule = DBMTL(beta=0.0)
    assert rule.stages() == ()
    logs = ROWS[1] / LOSSES[1][:, None]
    lengths = logs.norm(dim=1)
    wanted = ((lengths.max() / lengths)[:, None] * logs).sum(0)
    torch.testing.assert_close(ask(rule, ROWS[1], losses=LOSSES[1]).update, wanted)
    weights = rule(ROWS[0] @ ROWS[0].T)
    assert weights.tolist() == pytest.approx([1.0, 2**0.5])


def test_directions_are_equally_long_on_average_too():
    rule = DBMTL()
    advance(rule, ROWS[0], losses=LOSSES[0])
    (stage,) = rule.stages()
    names = ("objective 0", "objective 1")
    seen = stage(ROWS[1], block="block", names=names, losses=LOSSES[1])
    weights = rule(seen @ seen.T)
    lengths = weights * seen.norm(dim=1)
    torch.testing.assert_close(lengths, seen.norm(dim=1).max().expand(2))


def test_the_unit_of_a_loss_does_not_matter_over_several_steps():
    plain, scaled, factors = DBMTL(), DBMTL(), torch.tensor([1e4, 1e-3], dtype=torch.float64)
    for rows, losses in zip(ROWS, LOSSES, strict=True):
        one = ask(plain, rows, losses=losses).update
        torch.testing.assert_close(ask(scaled, rows * factors[:, None], losses=losses * factors).update, one)
        advance(plain, rows, losses=losses)
        advance(scaled, rows * factors[:, None], losses=losses * factors)


@pytest.mark.parametrize("budget", [None, "725KiB"])
def test_in_the_engine_losses_reach_the_averages(budget):
    net, rule = Net(), DBMTL()
    losses = losses_of(net, 0, 0, 1)
    values = torch.stack([loss.detach() for loss in losses.values()]).double()
    rows = equipoise.gradients(losses, net)
    step = equipoise.backward(losses_of(net, 0, 0, 1), rule, parameters=net, max_memory=budget)
    assert step.weights is not None
    wanted = rows.combine(step.weights * 0.1 / values)["wide.weight"]
    torch.testing.assert_close(net.wide.weight.grad, wanted, rtol=1e-4, atol=1e-6)
    assert step.gramian is not None
    lengths = step.weights * step.gramian.diagonal().sqrt()
    torch.testing.assert_close(lengths, lengths.max().expand(3))


def test_a_loss_of_zero_counts_as_little_and_one_below_is_refused_by_name():
    answer = ask(DBMTL(), ROWS[0], losses=torch.tensor([0.0, 1.0]))
    assert answer.finite
    for beta in (0.0, 0.9):
        with pytest.raises(ValueError, match="'b' = -1"):
            ask(DBMTL(beta=beta), ROWS[0], losses=torch.tensor([1.0, -1.0]), names=("a", "b"))
    for options in ({"beta": 1.0}, {"sigma": -1.0}):
        with pytest.raises(ValueError, match=r"beta is .* and sigma"):
            DBMTL(**options)
