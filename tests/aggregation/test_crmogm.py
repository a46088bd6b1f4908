import pytest
import torch
from tests.core.ranks import Net, losses_of
from torch import Tensor

import equipoise
from equipoise.aggregation import CRMOGM, DBMTL, MGDA, AlignedMTL, GradVac, Mean, MoCo, UPGrad
from equipoise.core.step import Group, Step
from equipoise.testing.ask import advance, ask

NAMES = ("a", "b", "c")


def gramians(count: int) -> list[Tensor]:
    drawn = torch.Generator().manual_seed(0)
    rows = [torch.randn(3, 5, generator=drawn, dtype=torch.float64) for _ in range(count)]
    return [one @ one.T for one in rows]


def step(gramian: Tensor, weights: Tensor) -> Step:
    return Step(NAMES, torch.ones(3, dtype=torch.float64), weights, gramian)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 1.0])
def test_weights_are_averages_of_the_rules_own(alpha):
    """Zhou et al. 2022: w_k = alpha w_(k-1) + (1 - alpha) v_k, from w_1 = v_1 on."""
    rule, wanted = CRMOGM(UPGrad(), alpha=alpha), None
    for gramian in gramians(6):
        own = UPGrad()(gramian)
        wanted = own if wanted is None else alpha * wanted + (1 - alpha) * own
        found = rule(gramian, names=NAMES)
        torch.testing.assert_close(found, wanted)
        rule.update(step(gramian, found))


def test_noisy_weights_vary_less():
    """What the average is for: over steps of one distribution the weights spread less."""
    rule, own, averaged = CRMOGM(MGDA()), [], []
    for gramian in gramians(300):
        found = rule(gramian, names=NAMES)
        own.append(MGDA()(gramian))
        averaged.append(found)
        rule.update(step(gramian, found))
    assert torch.stack(averaged[50:]).std(0).max() < 0.4 * torch.stack(own).std(0).min()


def test_the_rule_sees_what_it_would_see_alone():
    """Losses, preference and names go on; a preference is refused where the rule takes none."""
    (gramian,) = gramians(1)
    preference = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    found = CRMOGM(AlignedMTL()).apply_to(gramian, preference=preference, names=NAMES, losses=torch.ones(3))
    torch.testing.assert_close(found, AlignedMTL()(gramian, preference=preference))
    with pytest.raises(ValueError, match="CRMOGM takes no preference"):
        CRMOGM(MGDA()).apply_to(gramian, preference=preference, names=NAMES)
    losses = torch.tensor([1.0, 2.0, 3.0])
    found = CRMOGM(DBMTL(beta=0.0)).apply_to(gramian, losses=losses, names=NAMES)
    torch.testing.assert_close(found, DBMTL(beta=0.0)(gramian, losses=losses))
    assert not CRMOGM(Mean()).needs_directions


def test_the_rules_own_state_moves_too():
    rule, alone = CRMOGM(GradVac(beta=0.5), alpha=0.0), GradVac(beta=0.5)
    for gramian in gramians(3):
        found = rule(gramian, names=NAMES)
        torch.testing.assert_close(found, alone(gramian, names=NAMES))
        rule.update(step(gramian, found))
        alone.update(step(gramian, found))
    wrapped, plain, rows = CRMOGM(MoCo(), alpha=0.0), MoCo(), torch.randn(3, 5, generator=torch.Generator())
    for _ in range(3):
        torch.testing.assert_close(ask(wrapped, rows).update, ask(plain, rows).update)
        advance(wrapped, rows)
        advance(plain, rows)


def test_a_stack_is_averaged_group_by_group():
    stack = torch.stack(gramians(4))
    rule = CRMOGM(UPGrad())
    assert rule.batched
    found = rule(stack[:2], names=NAMES, groups=("one", "two"))
    torch.testing.assert_close(found, UPGrad()(stack[:2]))
    groups = {k: Group(w, g) for k, w, g in zip(("one", "two"), found, stack[:2], strict=True)}
    rule.update(Step(NAMES, torch.ones(3, dtype=torch.float64), None, stack[:2].sum(0), groups=groups))
    second = rule(stack[2:], names=NAMES, groups=("one", "two"))
    torch.testing.assert_close(second, 0.9 * found + 0.1 * UPGrad()(stack[2:]))


@pytest.mark.parametrize("inner", [UPGrad, MoCo])  # one takes stacks, the other one Gramian at a time
def test_layers_have_averages_of_their_own(inner):
    net, rule, alone = Net(), CRMOGM(inner(), alpha=0.5), inner()
    before = None
    for number in range(2):
        found, own = (
            equipoise.backward(losses_of(net, number, 0, 1), one, parameters=net, groups="layer")
            for one in (rule, alone)
        )
        for name, group in found.groups.items():
            wanted = own.groups[name].weights
            if before is not None:
                wanted = (wanted + before.groups[name].weights) / 2
            torch.testing.assert_close(group.weights, wanted, rtol=1e-4, atol=1e-6)
        rule.update(found)
        alone.update(own)
        before = found


def test_a_reused_or_overflowed_step_is_not_averaged():
    (gramian,) = gramians(1)
    rule = CRMOGM()
    weights = torch.full((3,), 1 / 3, dtype=torch.float64)
    rule.update(Step(NAMES, torch.ones(3, dtype=torch.float64), weights))
    rule.update(Step(NAMES, torch.ones(3, dtype=torch.float64), weights, gramian, age=1))
    torch.testing.assert_close(rule(gramian, names=NAMES), MGDA()(gramian))


def test_refusals():
    with pytest.raises(TypeError, match="no GramianRule"):
        CRMOGM(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"alpha is 1\.5"):
        CRMOGM(alpha=1.5)


def seen_in(rule: CRMOGM, gramian: Tensor, *names: str) -> dict[str, float]:
    """One step of the objectives of these names: the weights, which `update` is told."""
    places = ["abcd".index(name) for name in names]
    part = gramian[places][:, places]
    found = rule(part, names=names)
    rule.update(Step(names, torch.ones(len(names), dtype=torch.float64), found, part))
    return dict(zip(names, found.tolist(), strict=True))


@pytest.mark.parametrize("inner", [MGDA, UPGrad])
def test_weights_stay_on_the_scale_of_the_rule_whoever_is_present(inner):
    """Of MGDA on the simplex: one alone has all the weight, and those that come back what they had."""
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(3)).double()
    gramian, rule = rows @ rows.T, CRMOGM(inner())
    first = seen_in(rule, gramian, "a", "b", "c")
    for _ in range(3):
        assert seen_in(rule, gramian, "a") == pytest.approx({"a": float(inner()(gramian[:1, :1]))})
    if inner is MGDA:
        assert seen_in(rule, gramian, "a", "b", "c") == pytest.approx(first)
        for names in ("bd", "d", "cb", "da", "abcd", "ac", "dcba"):
            assert sum(seen_in(rule, gramian, *names).values()) == pytest.approx(1.0)
        assert float(rule.read("average", tuple("abcd")).sum()) == pytest.approx(1.0)


def test_one_that_comes_late_has_the_rules_own_weight_at_first():
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(4)).double()
    gramian, rule = rows @ rows.T, CRMOGM(MGDA())
    seen_in(rule, gramian, "a", "b", "c")
    own = MGDA()(gramian)
    found = seen_in(rule, gramian, "a", "b", "c", "d")
    assert found["d"] == pytest.approx(float(own[3]))
    assert sum(found.values()) == pytest.approx(1.0)
