"""Forms, budgets and what a step says of them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import equipoise
from equipoise.aggregation import MGDA, DualProj, GradDrop, Mean, UPGrad
from equipoise.core.plan import parse_memory


def wide() -> tuple[nn.Module, Callable[[], dict[str, Tensor]]]:
    """Four layers that are cheap in factors, and a table."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(50, 64), nn.Flatten(), nn.Linear(192, 300), nn.Tanh(), nn.Linear(300, 300), nn.Tanh(),
        nn.Linear(300, 4),
    )  # fmt: skip
    words = torch.randint(50, (8, 3))

    def losses() -> dict[str, Tensor]:
        out = model(words)
        return {f"task {i}": (out[:, i] - i).square().mean() for i in range(4)}

    return model, losses


def gradients(model: nn.Module) -> list[Tensor]:
    found = [parameter.grad for parameter in model.parameters()]
    return [gradient.clone() for gradient in found if gradient is not None]


def test_a_plan_says_route_passes_forms_and_bytes():
    model, losses = wide()
    plan = equipoise.backward(losses(), UPGrad(), parameters=model).plan
    forms = {layer.name: layer.form for layer in plan.layers}
    assert plan.route == "directions"
    assert (plan.passes, plan.sweeps) == (4, 1)
    assert forms["0.weight"] == "touched"
    assert forms["4.weight"] == "ghost"
    assert forms["4.bias"] == "block"
    assert plan.covered == 1.0
    assert 0 < plan.measured <= plan.predicted
    assert plan.approximate == ""
    assert "4.weight" in str(plan)
    assert "100% of the parameters under a layer rule" in str(plan)


def test_factors_hold_less_than_the_directions():
    model, losses = wide()
    plan = equipoise.backward(losses(), UPGrad()).plan
    assert plan.measured < 4 * sum(parameter.nbytes for parameter in model.parameters()) / 5


@pytest.mark.parametrize("rule", [UPGrad(), GradDrop()], ids=["UPGrad", "GradDrop"])
def test_a_budget_splits_the_layers_and_changes_nothing_else(rule):
    model, losses = wide()
    whole = equipoise.backward(losses(), rule, parameters=model)
    expected = gradients(model)
    model.zero_grad()
    budget = 1_500_000 if isinstance(rule, GradDrop) else 200_000
    split = equipoise.backward(losses(), rule, parameters=model, max_memory=budget, verify=True)
    assert split.plan.sweeps > 1
    assert split.plan.measured <= split.plan.predicted <= budget
    assert split.plan.passes > whole.plan.passes
    torch.testing.assert_close(split.gramian, whole.gramian, rtol=1e-5, atol=1e-9)
    for found, one in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(found, one, rtol=1e-4, atol=1e-7)


def test_a_parameter_beyond_the_budget_is_gone_through_by_pairs():
    """A weight used in a product that no rule knows, of which only two directions fit."""
    weight = nn.Parameter(torch.randn(40, 40, generator=torch.Generator().manual_seed(0)))

    def losses() -> list[Tensor]:
        mixed = torch.einsum("ij,kj->ik", weight, weight).sin()
        return [mixed[i].sum() * (i + 1) for i in range(5)]

    rule = UPGrad()
    whole = equipoise.backward(losses(), rule)
    expected, weight.grad = weight.grad, None
    split = equipoise.backward(losses(), rule, max_memory=2 * weight.nbytes + 100)
    assert split.plan.passes == 5 + 4 + 3 + 2 + 1 + 1
    assert split.plan.measured <= 2 * weight.nbytes
    torch.testing.assert_close(split.gramian, whole.gramian, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-5, atol=1e-6)


def test_a_budget_that_is_too_small_names_the_parameter_and_what_it_takes():
    model, losses = wide()
    with pytest.raises(ValueError, match=r"two directions of the parameter '4.weight' alone take 703"):
        equipoise.backward(losses(), UPGrad(), parameters=model, max_memory="100 KiB")
    with pytest.raises(ValueError, match=r"all directions of the parameter '4.weight' alone take"):
        equipoise.backward(losses(), GradDrop(), parameters=model, max_memory="100 KiB")
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("text", ["", "much", "-1 GiB", 0, "1 XB"])
def test_no_amount_of_memory(text):
    with pytest.raises(ValueError, match="memory"):
        parse_memory(text)


def test_amounts_of_memory():
    assert [parse_memory(text) for text in (7, "7", "2KiB", "2 kb", "1.5GiB")] == [7, 7, 2048, 2000, 3 << 29]


def test_one_pass_rules_say_so():
    _, losses = wide()
    plan = equipoise.backward(losses(), Mean()).plan
    assert (plan.route, plan.passes) == ("one pass", 1)


def test_a_table_of_which_little_is_looked_up_gets_a_sparse_gradient_where_it_asked_for_one():
    table = nn.Embedding(1000, 8, sparse=True)
    found = table(torch.tensor([3, 5, 3]))
    step = equipoise.backward({"a": found[0].sum(), "b": found[1:].square().sum()}, UPGrad())
    assert table.weight.grad is not None
    assert table.weight.grad.is_sparse
    assert sorted(table.weight.grad.coalesce().indices()[0].tolist()) == [3, 5]
    assert step.plan.measured < 3 * 2 * 8 * 4


@pytest.mark.parametrize("groups", ["layer", "tensor", lambda name: name.split(".")[0]])
def test_groups_get_weights_of_their_own_which_are_those_of_their_own_gramian(groups):
    model, losses = wide()
    step = equipoise.backward(losses(), UPGrad(), parameters=model, groups=groups)
    named = dict(model.named_parameters())
    rows = equipoise.gradients(losses(), model)
    assert step.weights is None
    assert step.gramian is not None
    assert len(step.groups) == (7 if groups == "tensor" else 4)
    for group, one in step.groups.items():
        mine = [name for name in named if name == group or name.rpartition(".")[0] == group]
        part = equipoise.Bundle(rows.names, {name: rows.blocks[name] for name in mine})
        torch.testing.assert_close(one.gramian, part.gramian(), rtol=1e-4, atol=1e-8)
        torch.testing.assert_close(one.weights, UPGrad()(part.gramian()), rtol=1e-3, atol=1e-6)
        for name, update in part.combine(one.weights).items():
            torch.testing.assert_close(named[name].grad, update, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(sum(one.gramian for one in step.groups.values()), step.gramian)


def test_groups_that_make_no_sense_are_refused():
    model, losses = wide()
    with pytest.raises(ValueError, match="goes by the names of parameters"):
        equipoise.backward(losses(), UPGrad(), groups="layer")
    with pytest.raises(ValueError, match="groups is 'block'"):
        equipoise.backward(losses(), UPGrad(), groups="block")
    with pytest.raises(ValueError, match="Mean gives the same update for any"):
        equipoise.backward(losses(), Mean(), parameters=model, groups="layer")


@pytest.mark.parametrize("rule", [UPGrad(), DualProj(), MGDA()], ids=lambda rule: type(rule).__name__)
def test_groups_solved_at_once_get_the_weights_of_each_alone(rule):
    model, losses = wide()
    step = equipoise.backward(losses(), rule, parameters=model, groups="tensor")
    assert rule.batched
    for one in step.groups.values():
        torch.testing.assert_close(one.weights, rule(one.gramian), rtol=1e-7, atol=1e-10)
