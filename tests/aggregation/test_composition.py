"""Rules, wrappers, transforms, groups and preferences in one call of `backward`."""

import pytest
import torch
from tests.core.ranks import Net, losses_of
from torch import Tensor

import equipoise
from equipoise import TwoBatches, pair
from equipoise.aggregation import (
    CRMOGM,
    AlignedMTL,
    ExcessMTL,
    MoCo,
    NormalizedRows,
    ObjectiveMomentum,
    UPGrad,
)

PREFERENCE = {"class": 0.5, "number": 0.3, "size": 0.2}


def shared(net: Net, number: int) -> equipoise.Bundle:
    rows = equipoise.gradients(losses_of(net, number, 0, 1), net)
    return equipoise.Bundle(rows.names, {k: v for k, v in rows.blocks.items() if "right" not in k})


def layers(rows: dict[str, Tensor]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in rows:
        found.setdefault(name.rpartition(".")[0], []).append(name)
    return found


@pytest.mark.parametrize("budget", [None, "725KiB"])
@pytest.mark.parametrize("inner", [UPGrad, AlignedMTL])
def test_transforms_layers_averaged_weights_and_a_preference(inner, budget):
    """Two steps beside the same by hand: momentum of rows, equal lengths, weights of each layer, averages."""
    net, rule = Net(), CRMOGM(inner(), alpha=0.5)
    transforms = [ObjectiveMomentum(momentum=0.5), NormalizedRows()]
    preference = torch.tensor(list(PREFERENCE.values()), dtype=torch.float64)
    momentum: dict[str, Tensor] = {}
    average: dict[str, Tensor] = {}
    for number in range(2):
        bundle = shared(net, number)
        rows = {name: block.flatten(1).double() for name, block in bundle.blocks.items()}
        momentum = {n: (r if number == 0 else (momentum[n] + r) / 2) for n, r in rows.items()}
        lengths = {n: r.norm(dim=1, keepdim=True) for n, r in momentum.items()}
        mean = {n: each[each > 0].mean() for n, each in lengths.items()}
        unit = {n: torch.nan_to_num(momentum[n] / lengths[n]) * mean[n] for n in rows}
        step = equipoise.backward(
            losses_of(net, number, 0, 1),
            rule,
            parameters=net,
            transforms=transforms,
            groups="layer",
            preference=PREFERENCE,
            max_memory=budget,
        )
        for layer, members in layers(unit).items():
            gramian = torch.stack([unit[name] @ unit[name].T for name in members]).sum(0)
            own = inner()(gramian, preference=preference)
            average[layer] = own if number == 0 else (average[layer] + own) / 2
            torch.testing.assert_close(step.groups[layer].weights, average[layer], rtol=1e-3, atol=1e-5)
            for name in members:
                wanted = (average[layer] @ unit[name]).float()
                found = net.get_parameter(name).grad
                assert found is not None
                torch.testing.assert_close(found.flatten(), wanted, rtol=1e-3, atol=1e-5)
        assert step.preference is not None
        for one in (rule, *transforms):
            one.update(step)
        net.zero_grad()


@pytest.mark.parametrize("make", [MoCo, ExcessMTL, lambda: CRMOGM(MoCo()), lambda: CRMOGM(ExcessMTL())])
def test_a_rule_with_stages_stands_behind_transforms_and_by_layers(make):
    """The caller's transforms come first; every layer then has weights of its own, which sum to one."""
    net, rule = Net(), make()
    for number in range(3):
        net.zero_grad()
        step = equipoise.backward(
            losses_of(net, number, 0, 1),
            rule,
            parameters=net,
            transforms=NormalizedRows(length="one"),
            groups="layer",
        )
        rule.update(step)
    weights = torch.stack([group.weights for group in step.groups.values()])
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights), dtype=torch.float64))
    assert float(weights.std(0).max()) > 0
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


def two(net: Net, number: int) -> dict[str, Tensor]:
    return pair(losses_of(net, number, 0, 1), losses_of(net, number + 10, 0, 1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: CRMOGM(TwoBatches(UPGrad())),
        lambda: TwoBatches(CRMOGM(UPGrad())),
        lambda: TwoBatches(MoCo()),
    ],
)
def test_two_batches_inside_and_outside_by_layers(make):
    net, rule = Net(), make()
    for number in range(2):
        step = equipoise.backward(two(net, number), rule, parameters=net, groups="layer")
        rule.update(step)
        for group in step.groups.values():
            torch.testing.assert_close(group.weights[:3], group.weights[3:])


def test_averages_do_not_depend_on_which_wrapper_is_outside():
    """Both average the weights of one rule, whose halves are alike."""
    answers = []
    for rule in (CRMOGM(TwoBatches(UPGrad())), TwoBatches(CRMOGM(UPGrad()))):
        net = Net()
        for number in range(3):
            step = equipoise.backward(two(net, number), rule, parameters=net)
            rule.update(step)
        answers.append(step.weights)
    torch.testing.assert_close(*answers)


def test_rows_of_micro_batches_are_not_transformed_unseen():
    """Summed inner products of micro-batches know nothing of the rows that MoCo keeps."""
    with pytest.raises(ValueError, match="MoCo transforms the rows"):
        equipoise.Accumulator(MoCo())
    with pytest.raises(ValueError, match="CRMOGM transforms the rows"):
        equipoise.Accumulator(CRMOGM(MoCo()))
    with pytest.raises(ValueError, match="parameters=model"):
        equipoise.backward(losses_of(Net(), 0, 0, 1), CRMOGM(ExcessMTL()))
