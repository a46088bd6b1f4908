"""Our rules as TorchJD's aggregators, theirs as our rules."""

import pytest
import torch
import torchjd.aggregation as peers
from tests.external.draws import jacobians
from torch import nn
from torchjd.autojac import backward, jac_to_grad

import equipoise
from equipoise import aggregation, scalarization
from equipoise.bridges import from_torchjd, to_torchjd

ROWS = list(jacobians(20, scales=(1.0,)))


@pytest.mark.parametrize("name", ["UPGrad", "MGDA", "ConFIG", "NashMTL", "Mean", "SDMGrad"])
def test_a_rule_is_an_aggregator(name):
    rule = getattr(aggregation, name)()
    aggregator = to_torchjd(rule)
    assert isinstance(aggregator, peers.GramianWeightedAggregator)
    for rows in ROWS:
        torch.testing.assert_close(aggregator(rows), rule(rows @ rows.T) @ rows)
        assert aggregator(rows.float()).dtype == torch.float32


def test_a_row_rule_is_an_aggregator_and_its_draws_advance():
    aggregator, rule = to_torchjd(aggregation.GradDrop()), aggregation.GradDrop()
    assert isinstance(aggregator, peers.Aggregator)
    first, second = aggregator(ROWS[5]), aggregator(ROWS[5])
    torch.testing.assert_close(first, rule(ROWS[5]))
    drawn = [aggregator(ROWS[5]) for _ in range(20)]
    assert any(not torch.equal(one, first) for one in (second, *drawn))


@pytest.mark.parametrize("name", ["UPGrad", "MGDA", "PCGrad"])
def test_an_aggregator_is_a_rule_that_trains(name):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)), torch.randn(8, 4)
    inner = getattr(peers, name)()

    def losses() -> dict[str, torch.Tensor]:
        out = model(x)
        return {"a": out[:, 0].square().mean(), "b": (out[:, 1] - 1).square().mean()}

    rule = from_torchjd(inner)
    assert isinstance(rule, equipoise.GramianRule)
    torch.manual_seed(1)
    equipoise.backward(losses(), rule, parameters=model)
    ours = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    torch.manual_seed(1)
    backward(list(losses().values()))
    jac_to_grad(list(model.parameters()), inner)
    for one, parameter in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=2e-3, atol=1e-5)


def test_a_weighting_and_an_aggregator_without_one():
    rule = from_torchjd(peers.MeanWeighting())
    torch.testing.assert_close(rule(torch.eye(4, dtype=torch.float64)), torch.full((4,), 0.25).double())
    rows = from_torchjd(peers.TrimmedMean(trim_number=1))
    assert isinstance(rows, equipoise.RowRule)
    torch.testing.assert_close(
        rows(torch.tensor([[1.0, 5.0], [2.0, 7.0], [9.0, 6.0]])), torch.tensor([2.0, 6.0])
    )


def test_what_cannot_be_bridged():
    with pytest.raises(TypeError, match="takes no directions"):
        to_torchjd(scalarization.Linear())
    with pytest.raises(TypeError, match="neither an aggregator nor a weighting"):
        from_torchjd(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="composed with a function"):  # it would take a Gramian for a Jacobian
        from_torchjd(peers.UPGrad().weighting)
