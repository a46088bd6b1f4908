"""MoCo against LibMTL's arithmetic, run by hand in float64, and against what the paper proves."""

import pytest
import torch
from tests.core.ranks import Net, losses_of
from torch import Tensor

import equipoise
from equipoise.aggregation import MGDA, MoCo
from equipoise.core.step import Step
from equipoise.testing.ask import advance, ask

ROWS = (
    torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64),
    torch.tensor([[1.0, 1.0], [0.0, -2.0]], dtype=torch.float64),
)
LOSSES = torch.tensor([[1.0, 4.0], [0.5, 3.0]], dtype=torch.float64)


def test_two_steps_are_those_of_libmtl():
    """LibMTL's MoCo at its defaults on rows g / |g| f: the update Y'w after each of two steps."""
    rule = MoCo(relative=False, onto="softmax")
    wanted = (
        ([0.5467381513146626, 0.4532618486853374], [-0.36763997489400135, 0.6410090491844873]),
        ([0.5274101044133659, 0.4725898955866341], [-0.19565059031516505, -0.0032829258117947385]),
    )
    for rows, losses, (weights, update) in zip(ROWS, LOSSES, wanted, strict=True):
        rows = torch.nn.functional.normalize(rows) * losses[:, None]
        answer = ask(rule, rows)
        torch.testing.assert_close(
            answer.weights, torch.tensor(weights, dtype=torch.float64), rtol=1e-7, atol=0
        )
        torch.testing.assert_close(
            answer.update, torch.tensor(update, dtype=torch.float64), rtol=1e-6, atol=1e-9
        )
        advance(rule, rows)


def test_a_projected_step_from_equal_weights():
    """w - gamma G w with G w = (1, 0), then down to the simplex: worked by hand."""
    gramian = ROWS[0] @ ROWS[0].T
    assert MoCo(relative=False)(gramian).tolist() == pytest.approx([0.45, 0.55])
    assert MoCo()(gramian).tolist() == pytest.approx([0.5 - 0.05 / 3, 0.5 + 0.05 / 3])


def test_steady_directions_are_tracked_and_their_min_norm_weights_found():
    """Fernando et al. 2023: without noise y goes to g and w to the weights of MGDA."""
    rule = MoCo(gamma=0.3, gamma_decay=0.0, beta_decay=0.0)
    for _ in range(400):
        advance(rule, ROWS[0])
    answer = ask(rule, ROWS[0])
    torch.testing.assert_close(answer.weights, MGDA()(ROWS[0] @ ROWS[0].T), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(answer.update, MGDA()(ROWS[0] @ ROWS[0].T) @ ROWS[0], rtol=1e-6, atol=1e-6)


def test_noise_biases_mgda_and_not_the_tracked_weights():
    """The weights from single batches are wrong on average; tracked ones come several times closer."""
    drawn = torch.Generator().manual_seed(0)
    true = torch.tensor([[2.0, 0.0], [-0.5, 1.0]], dtype=torch.float64)
    wanted = MGDA()(true @ true.T)
    rule, found, tracked = MoCo(gamma_decay=0.0, beta=0.02, beta_decay=0.0), [], []
    for number in range(3000):
        noise = torch.randn(2, 2, generator=drawn, dtype=torch.float64) * torch.tensor([[3.0], [0.3]])
        found.append(MGDA()((true + noise) @ (true + noise).T))
        if number > 1000:
            tracked.append(ask(rule, true + noise).weights)
        advance(rule, true + noise)
    off = [float((torch.stack(each).mean(0) - wanted).abs().max()) for each in (found, tracked)]
    assert off[0] > 0.05
    assert off[1] < off[0] / 3


def test_state_goes_with_names():
    rule = MoCo()
    advance(rule, ROWS[0], names=("a", "b"))
    swapped = ask(rule, ROWS[1].flip(0), names=("b", "a"))
    plain = ask(rule, ROWS[1], names=("a", "b"))
    torch.testing.assert_close(swapped.update, plain.update)
    fresh = ask(rule, ROWS[1], names=("c", "d")).update
    torch.testing.assert_close(fresh, ask(MoCo(), ROWS[1]).update)


@pytest.mark.parametrize("groups", ["all", "layer"])
def test_in_the_engine_the_update_is_of_tracked_rows(groups):
    """beta = 1/2 at first: the update is half the weighted sum, with weights of each group's own."""
    net, rule = Net(), MoCo()
    rows = equipoise.gradients(losses_of(net, 0, 0, 1), net)
    step = equipoise.backward(losses_of(net, 0, 0, 1), rule, parameters=net, groups=groups)
    weight_of = {"": step.weights} if groups == "all" else {k: g.weights for k, g in step.groups.items()}
    for name in ("embedding.weight", "wide.weight"):
        weights = weight_of["" if groups == "all" else name.rpartition(".")[0]]
        assert weights is not None
        wanted = rows.combine(weights)[name] / 2
        torch.testing.assert_close(net.get_parameter(name).grad, wanted, rtol=1e-4, atol=1e-6)
    rule.update(step)
    kept = rule.shares_of(step.names, "" if groups == "all" else "wide")
    torch.testing.assert_close(kept, weight_of["" if groups == "all" else "wide"])


def test_what_overflows_is_not_tracked():
    """A step that a GradScaler skips leaves y as it was."""
    rule = MoCo()
    advance(rule, ROWS[0], names=("a", "b"))
    rule.tracking(torch.tensor([[float("inf"), 1.0], [1.0, 1.0]]), block="block", names=("a", "b"))
    rule.update(Step(("a", "b"), torch.ones(2), torch.full((2,), 0.5)))
    kept = rule.tracking.known("block", ("a", "b"))
    assert kept[0] is not None
    assert kept[0].tolist() == [1.0, 0.0]
    assert rule.shares_of(("a", "b")).isfinite().all()


def test_refusals():
    for options in ({"beta": 0.0}, {"gamma": -1.0}, {"rho": -0.1}, {"onto": "sphere"}, {"beta_decay": -1.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            MoCo(**options)
    rule = MoCo()
    advance(rule, ROWS[0])
    with pytest.raises(ValueError, match="block 'block' has changed"):
        ask(rule, torch.ones(2, 3))


def rows_of(rule: MoCo) -> list[Tensor | None]:
    return rule.tracking.known("block", ("objective 0", "objective 1"))


def test_a_saved_rule_goes_on_where_it_was():
    rule, other = MoCo(), MoCo()
    for rows in ROWS:
        advance(rule, rows)
    other.load_state_dict(rule.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(rows_of(rule), rows_of(other), strict=True))
    advance(rule, ROWS[0])
    advance(other, ROWS[0])
    assert torch.equal(ask(rule, ROWS[1]).update, ask(other, ROWS[1]).update)
