from itertools import combinations

import pytest
import torch
from hypothesis import given
from tests.core.gramians import directions

import equipoise
from equipoise.aggregation import GEM, PCD
from equipoise.core.step import Step

H = torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)


def drawn(m, seed):
    rows = torch.randn(m, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows[1:] -= torch.rand(m - 1, 1, generator=torch.Generator().manual_seed(seed)).double() * rows[0]
    return rows


def by_enumeration(rows, tau):
    """Varam & AlHajri 2026, appendix B.2: unit rows, every set of constraints in turn, then the length."""
    unit = rows / rows.norm(dim=1, keepdim=True)
    gramian = unit @ unit.T
    short = tau - gramian[1:, 0]
    for size in range(len(rows)):
        for chosen in map(list, combinations(range(len(short)), size)):
            multipliers = torch.zeros(len(short), dtype=torch.float64)
            if chosen:
                multipliers[chosen] = torch.linalg.solve(gramian[1:, 1:][chosen][:, chosen], short[chosen])
            if bool((multipliers >= 0).all() & (gramian[1:, 1:] @ multipliers - short >= -1e-9).all()):
                found = unit[0] + multipliers @ unit[1:]
                return found / found.norm() * rows[0].norm()
    raise AssertionError("no set of constraints fits")


def step(gramian, names=("a", "b")):
    ones = torch.ones(len(names), dtype=torch.float64)
    return Step(names, ones, ones, gramian)


@pytest.mark.parametrize(("tau", "update"), [(0.02, (1.37366, 1.45363)), (0.5, (0.33820, 1.97120))])
def test_the_hand_example(tau, update):
    """TorchJD's PCD on (2, 0), (-1, 1)."""
    assert (PCD(tau=tau)(H @ H.T) @ H).tolist() == pytest.approx(update, abs=6e-6)


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("m", [2, 3, 5, 7])
def test_the_program_is_solved(m, tau):
    for seed in range(8):
        rows = drawn(m, seed)
        torch.testing.assert_close(PCD(tau=tau)(rows @ rows.T) @ rows, by_enumeration(rows, tau))


def test_a_primary_that_serves_all_is_left_alone():
    """Corollary 4.3: where every secondary already gains its share the update is the primary direction."""
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.2], [3.0, -2.0]], dtype=torch.float64)
    assert PCD(tau=0.1)(rows @ rows.T).tolist() == pytest.approx([1.0, 0.0, 0.0])


def test_constraints_that_exclude_each_other_are_dropped():
    """Corollary B.3: two anti-parallel secondaries; without a share (tau = 0) there is a solution."""
    rows = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, -2.0, 0.0]], dtype=torch.float64)
    assert PCD(tau=0.2)(rows @ rows.T).tolist() == pytest.approx([1.0, 0.0, 0.0])
    update = PCD(tau=0.0)(rows @ rows.T) @ rows
    assert update.tolist() == pytest.approx([1.25**0.5, 0.0, 0.0])


def test_parallel_secondaries_with_shares_of_their_own():
    """The one that asks for more binds alone."""
    rows = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-3.0, 3.0]], dtype=torch.float64)
    both = PCD(primary="a", tau={"b": 0.1, "c": 0.4})(rows @ rows.T, names=("a", "b", "c")) @ rows
    alone = PCD(tau=0.4)(rows[[0, 2]] @ rows[[0, 2]].T) @ rows[[0, 2]]
    torch.testing.assert_close(both, alone)


@given(directions())
def test_shares_or_the_primary_itself_at_the_length_of_the_primary(rows):
    rows = rows / max(float(rows.norm(dim=1).max()), 1e-300)
    update = PCD(tau=0.0)(rows @ rows.T) @ rows
    length = float(rows[0].norm())
    if float(update.norm()) > 0:
        assert float(update.norm()) == pytest.approx(length, rel=1e-6)
    if len(rows) > 1:
        unit = rows[1:] / rows[1:].norm(dim=1, keepdim=True).clamp(min=1e-300)
        assert float((unit @ update).min()) >= -1e-5 * length


@pytest.mark.parametrize("seed", range(6))
def test_without_a_share_it_points_where_gem_points(seed):
    """tau = 0 is the projection on the same cone, from unit rows and at the primary's length."""
    gramian = (rows := drawn(4, seed)) @ rows.T
    ours, theirs = PCD(tau=0.0)(gramian) @ rows, GEM(margin=0.0)(gramian) @ rows
    torch.testing.assert_close(ours / ours.norm(), theirs / theirs.norm())


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e12])
def test_the_scale_of_a_secondary_does_not_matter_and_that_of_all_is_the_update_s(scale):
    """Theorem B.9, over a history of steps."""
    plain, scaled, all_scaled = PCD(tau=0.3), PCD(tau=0.3), PCD(tau=0.3)
    factors = torch.tensor([1.0, scale, 1.0], dtype=torch.float64)
    for seed in range(4):
        rows = drawn(3, seed)
        other = factors[:, None] * rows
        wanted = plain(rows @ rows.T, names=("a", "b", "c")) @ rows
        torch.testing.assert_close(scaled(other @ other.T, names=("a", "b", "c")) @ other, wanted)
        all_found = all_scaled(scale**2 * (rows @ rows.T), names=("a", "b", "c")) @ rows
        torch.testing.assert_close(all_found, wanted)
        plain.update(step(rows @ rows.T, ("a", "b", "c")))
        scaled.update(step(other @ other.T, ("a", "b", "c")))
        all_scaled.update(step(scale**2 * (rows @ rows.T), ("a", "b", "c")))


def test_averages_are_bias_corrected_and_count_the_present_step():
    """Definition 4.5 with beta = .5: after 4 the average with 16 is (.25 * 4 + .5 * 16) / .75 = 12."""
    rule = PCD(tau=0.5, beta=0.5)
    rule.update(step(torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))))
    rows = torch.tensor([[1.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    share = 0.5 * 4 / 12**0.5  # what the second direction, over the root of 12, must gain along itself
    wanted = torch.tensor([1.0, share], dtype=torch.float64)
    found = rule(rows @ rows.T, names=("a", "b")) @ rows
    torch.testing.assert_close(found, wanted / wanted.norm())


def test_averages_go_with_names():
    rule = PCD(tau=0.5, beta=0.5, primary="a")
    rule.update(step(torch.diag(torch.tensor([4.0, 100.0], dtype=torch.float64))))
    there = rule(H @ H.T, names=("a", "b"))
    torch.testing.assert_close(rule((H @ H.T).flip(0, 1), names=("b", "a")), there.flip(0))
    fresh = PCD(tau=0.5, beta=0.5)(H @ H.T)
    torch.testing.assert_close(rule(H @ H.T, names=("a", "c")), fresh)
    assert not torch.allclose(there, fresh)


def test_a_zero_primary_stands_still():
    rows = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    assert PCD()(rows @ rows.T).tolist() == [0.0, 0.0]


def test_opposites():
    """Where the secondary is the primary turned round, nothing is left at tau = 0, and its share above."""
    rows = torch.tensor([[1.0, 2.0], [-2.0, -4.0]], dtype=torch.float64)
    assert PCD(tau=0.0)(rows @ rows.T).tolist() == [0.0, 0.0]
    torch.testing.assert_close(PCD(tau=0.02)(rows @ rows.T) @ rows, -rows[0])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tau": 1.5}, "tau is 1.5"),
        ({"tau": {"b": -0.1}}, "the fraction lies between 0 and 1"),
        ({"beta": 1.0}, "beta is 1.0"),
    ],
)
def test_options_out_of_range(options, match):
    with pytest.raises(ValueError, match=match):
        PCD(**options)


def test_unknown_names():
    with pytest.raises(ValueError, match="no objective is called 'main'; nearest: aim"):
        PCD(primary="main")(H @ H.T, names=("aim", "b"))
    with pytest.raises(ValueError, match="no value for the objective 'sparsity'"):
        PCD(tau={"rank": 0.1})(H @ H.T, names=("aim", "sparsity"))


def test_each_group_has_averages_of_its_own():
    """By tensors the update of each is that of a rule for this tensor alone, step after step."""
    first = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    second = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    model = {"first": first, "second": second}
    aims, others = torch.tensor([1.0, 0.2]), torch.tensor([1.0, -1.0])

    def losses(only: tuple[str, ...] = ("first", "second")) -> dict[str, torch.Tensor]:
        parts = {
            "first": ((first - aims).square().sum(), 100 * (first + others).square().sum()),
            "second": (100 * (second - aims).square().sum(), (second + others).square().sum()),
        }
        aim, other = (torch.stack([parts[name][i] for name in only]).sum() for i in range(2))
        return {"aim": aim, "other": other}

    whole = PCD(primary="aim", tau=0.3, beta=0.5)
    alone = {name: PCD(primary="aim", tau=0.3, beta=0.5) for name in model}
    for _ in range(3):
        grouped = equipoise.backward(losses(), whole, parameters=model, groups="tensor")
        for name, rule in alone.items():
            found, model[name].grad = model[name].grad, None
            step = equipoise.backward(losses((name,)), rule, parameters={name: model[name]})
            torch.testing.assert_close(found, model[name].grad)
            rule.update(step)
        whole.update(grouped)
        with torch.no_grad():
            for parameter in model.values():
                parameter -= 1e-3 * parameter.grad
                parameter.grad = None


def test_names_given_at_the_start_serve_for_every_group():
    weight, bias = (torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    rule = PCD(objectives=["a", "b"])
    losses = {"a": (weight * bias).sum(), "b": -(weight + bias).sum()}
    rule.update(equipoise.backward(losses, rule, groups="tensor"))
    with pytest.raises(ValueError, match="no objective is called 'c'"):
        rule.update(step(torch.eye(2), ("a", "c")))
