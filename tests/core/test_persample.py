"""One pass for the losses of m samples, against a pass for each."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import equipoise
from equipoise.aggregation import GradDrop, UPGrad

SAMPLES = 6


class Tied(nn.Module):
    """A transformer layer, positions, and a table that is the head too; attention has places first."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(4, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)

    def forward(self, words: Tensor) -> Tensor:
        return self.layer(self.table(words) + self.positions) @ self.table.weight.T


class BothWays(nn.Module):
    """A square matrix used as it is and transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8) / 3)

    def forward(self, x: Tensor) -> Tensor:
        return ((x @ self.weight).tanh() @ self.weight.T)[:, :5]


class PlacesFirst(nn.Module):
    """Samples along the second axis, as for a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 7)
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layer(x.transpose(0, 1).contiguous()).relu()
        return self.head(hidden).mean(0)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "perceptron": (
        lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.LayerNorm(16), nn.Linear(16, 5)),
        (8,),
    ),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2, dilation=2),
            nn.Flatten(), nn.Linear(16, 5),
        ),
        (3, 8, 8),
    ),
    "one dimension": (
        lambda: nn.Sequential(nn.Conv1d(3, 6, 3, stride=2, bias=False), nn.Flatten(), nn.Linear(18, 5)),
        (3, 8),
    ),
    "both ways": (BothWays, (8,)),
    "places first": (PlacesFirst, (3, 8)),
    "batch norm in evaluation": (
        lambda: nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 5)).eval(),
        (8,),
    ),
}  # fmt: skip


def classes() -> Tensor:
    return torch.randint(5, (SAMPLES,), generator=torch.Generator().manual_seed(3))


def made(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    if name == "tied":
        return Tied(), torch.randint(11, (SAMPLES, 4))
    make, shape = MODELS[name]
    return make(), torch.randn(SAMPLES, *shape)


def losses_of(model: nn.Module, x: Tensor) -> Tensor:  # -> (SAMPLES,)
    out = model(x)
    if isinstance(model, Tied):
        return cross_entropy(out.flatten(0, 1), x.flatten(), reduction="none").view(x.shape).mean(1)
    return cross_entropy(out, classes(), reduction="none")


@pytest.mark.parametrize("rule", [UPGrad(), GradDrop()], ids=["UPGrad", "GradDrop"])
@pytest.mark.parametrize("name", [*MODELS, "tied"])
def test_equals_a_pass_for_each_sample(name, rule):
    model, x = made(name)
    step = equipoise.backward(losses_of(model, x), rule, samples=True, parameters=model, verify=True)
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    each = equipoise.backward(list(losses_of(model, x).unbind()), rule, parameters=model)
    torch.testing.assert_close(step.gramian, each.gramian, rtol=1e-4, atol=1e-7)
    for one, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-3, atol=1e-6)
    assert {layer.form for layer in step.plan.layers} & {"samples"}
    assert step.names == tuple(map(str, range(SAMPLES)))


def test_a_plain_model_takes_one_pass_and_one_check():
    model, x = made("perceptron")
    step = equipoise.backward(losses_of(model, x), UPGrad(), samples=True)
    assert step.plan.route == "samples"
    assert step.plan.passes == 1
    assert "one pass more has checked" in step.plan.notes[0]


def test_batch_norm_in_training_joins_samples_and_that_is_seen():
    """Taking rows for samples before a batch norm would be wrong; it is not done there."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 5))
    x = torch.randn(SAMPLES, 8)
    step = equipoise.backward(losses_of(model, x), UPGrad(), samples=True, parameters=model, verify=True)
    forms = {layer.name: layer.form for layer in step.plan.layers}
    assert forms["3.weight"] == "samples"
    assert forms["0.weight"] != "samples"
    assert "samples meet in the layers of 0.weight, 0.bias" in step.plan.notes[1]
    assert step.plan.passes == SAMPLES


def test_a_loss_over_pairs_of_samples_joins_them_all():
    model, x = made("perceptron")
    out = model(x)
    contrast = (out @ out.T).logsumexp(1)
    step = equipoise.backward(contrast, UPGrad(), samples=True, parameters=model, verify=True)
    assert all(layer.form != "samples" for layer in step.plan.layers)


def test_the_gramian_alone():
    model, x = made("convolutions")
    found = equipoise.gramian(losses_of(model, x), model, samples=True)
    rows = equipoise.sample_gradients(model, cross_entropy, x, classes())
    torch.testing.assert_close(found, rows.gramian(), rtol=1e-4, atol=1e-7)
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.testing.assert_close(equipoise.gramian(list(losses_of(model, x))), found, rtol=1e-4, atol=1e-7)


def test_what_is_no_loss_of_a_sample_is_refused():
    model, x = made("perceptron")
    losses = losses_of(model, x)
    for wrong in (losses.mean(), {"gap": losses[0] - losses[1]}, losses[:, None]):
        with pytest.raises(ValueError, match="one loss for each sample"):
            equipoise.backward(wrong, UPGrad(), samples=True)
    with pytest.raises(ValueError, match="depend on nothing"):
        equipoise.backward(losses.detach(), UPGrad(), samples=True)
    with pytest.raises(ValueError, match="do not go together"):
        equipoise.backward(losses, UPGrad(), samples=True, features=losses)


def test_a_sample_that_is_not_finite_is_named_or_skipped():
    model, x = made("perceptron")
    losses = losses_of(model, x) * torch.tensor([1.0, 1.0, float("nan"), 1.0, 1.0, 1.0])
    with pytest.raises(equipoise.NonFiniteDirection, match="'2'"):
        equipoise.backward(losses, UPGrad(), samples=True, retain_graph=True)
    step = equipoise.backward(losses, UPGrad(), samples=True, on_nonfinite="skip")
    assert step.skipped == ("2",)
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())


def test_a_row_rule_over_samples_keeps_to_its_budget_or_says_what_it_takes():
    """No parameter is left without its update where not all of its rows fit."""
    model, x = made("perceptron")
    with pytest.raises(ValueError, match="all directions of the parameter"):
        equipoise.backward(losses_of(model, x), GradDrop(), samples=True, max_memory="3 KiB")
    assert all(parameter.grad is None for parameter in model.parameters())
    step = equipoise.backward(losses_of(model, x), GradDrop(), samples=True, max_memory=4800)
    assert step.plan.sweeps > 1
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    equipoise.backward(losses_of(model, x), GradDrop(), samples=True)
    for one, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)
