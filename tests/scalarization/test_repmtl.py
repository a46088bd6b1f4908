from math import log

import pytest
import torch
from torch import nn

import equipoise
from equipoise.scalarization import Linear, RepMTL

NAMES = ("a", "b", "c")


def network(places: int, channels: int = 4) -> nn.ModuleDict:
    torch.manual_seed(0)
    heads = {name: nn.Sequential(nn.Flatten(), nn.Linear(channels * places, 2)) for name in NAMES}
    return nn.ModuleDict({"trunk": nn.Conv1d(3, channels, 1), **heads}).double()


def pull(model: nn.ModuleDict, images: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    features = model["trunk"](images).tanh()
    outputs = {name: model[name](features) for name in NAMES}
    return {name: output.square().sum(1).log1p().mean() for name, output in outputs.items()}, features


def images(count: int, places: int) -> torch.Tensor:
    return torch.randn(count, 3, places, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def literal(losses, features, tau: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Equations 3 to 9 written out with every (c, c) matrix."""
    s = torch.stack([torch.autograd.grad(x, features, create_graph=True)[0] for x in losses.values()])
    m, b = s.shape[:2]
    hat = s.mean(2).abs()
    p = hat / hat.sum(0)
    tsr = -(p * p.log()).sum(0).mean()
    anchor = s.mean((0, 3))
    z_a = torch.stack([torch.outer(x, x).flatten() for x in anchor])
    z_t = torch.stack([torch.stack([(x @ x.T).flatten() for x in task]) for task in s])
    z_a, z_t = nn.functional.normalize(z_a, dim=-1), nn.functional.normalize(z_t, dim=-1)
    terms = []
    for t in range(m):
        for i in range(b):
            others = torch.stack([(z_a[i] @ z_a[k] / tau).exp() for k in range(b) if k != i]).sum()
            terms.append(-((z_a[i] @ z_t[t, i] / tau).exp() / others).log())
    return tsr, torch.stack(terms).mean()


@pytest.mark.parametrize("places", [1, 3, 9])
def test_the_terms_are_those_of_the_equations(places):
    """Wang et al. 2025, equations 3 to 9, without and with more places than channels."""
    losses, features = pull(network(places), images(5, places))
    tsr, csa = literal(losses, features, 0.5)
    torch.testing.assert_close(RepMTL(lambda_csa=0.0, lambda_tsr=1.0)(losses, features), tsr)
    torch.testing.assert_close(RepMTL(lambda_tsr=0.0, lambda_csa=1.0)(losses, features), csa)
    torch.testing.assert_close(RepMTL()(losses, features), 0.9 * tsr + 0.9 * csa)


def test_equal_saliencies_have_the_entropy_of_a_fair_draw_and_one_alone_none():
    z = torch.ones(2, 3, requires_grad=True)
    regulate = RepMTL(lambda_tsr=1.0, lambda_csa=0.0)
    assert regulate([z.square().sum()] * 4, z).item() == pytest.approx(log(4))
    assert regulate([z.square().sum(), (0 * z).sum()], z).item() == 0.0


def test_samples_apart_and_losses_alike_give_the_lowest_alignment():
    """Orthogonal samples on which the losses agree: csa = log(b - 1) - 1 / tau."""
    z = torch.eye(3, requires_grad=True)
    align = RepMTL(lambda_tsr=0.0, lambda_csa=1.0)
    assert align([z.square().sum(), 5 * z.square().sum()], z).item() == pytest.approx(log(2) - 2)


def test_gradients_reach_heads_and_trunk_and_are_those_of_the_value():
    model, x = network(3), images(4, 3)

    def value() -> torch.Tensor:
        return RepMTL()(*pull(model, x))

    for weight in (model["trunk"].weight, model["b"][1].weight):
        (slope,) = torch.autograd.grad(value(), weight)
        kept, step = weight.detach().clone(), 1e-5
        turn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            weight.data = kept + sign * step * turn
            ends.append(value().item())
        weight.data = kept
        assert (slope * turn).sum().item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_size_of_all_losses_together_does_not_matter(scale):
    losses, features = pull(network(3), images(4, 3))
    scaled = {name: scale * loss for name, loss in losses.items()}
    torch.testing.assert_close(RepMTL()(scaled, features), RepMTL()(losses, features))


def test_the_order_of_the_losses_does_not_matter():
    losses, features = pull(network(3), images(4, 3))
    turned = dict(reversed(losses.items()))
    torch.testing.assert_close(RepMTL()(turned, features), RepMTL()(losses, features))


def test_places_without_saliency_are_finite_and_pull_nowhere():
    z = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, -3.0]], requires_grad=True)
    value = RepMTL()([z.square().sum(), (z - 0 * z).pow(3).sum()], z)
    value.backward()
    assert bool(value.isfinite())
    assert bool(z.grad.isfinite().all())
    assert z.grad[1].tolist() == [0.0, 0.0]


def test_a_single_sample_and_a_single_loss():
    losses, features = pull(network(3), images(1, 3))
    assert RepMTL(lambda_tsr=0.0)(losses, features).item() == 0.0
    assert RepMTL(lambda_csa=0.0)({"a": losses["a"]}, features).item() == pytest.approx(0.0)


def test_it_is_one_more_loss_of_a_step():
    model = network(3)
    losses, features = pull(model, images(4, 3))
    step = equipoise.backward({**losses, "saliency": RepMTL()(losses, features)}, Linear())
    assert step.names == (*NAMES, "saliency")
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_tsr": -1.0}, "lambda_tsr is -1.0"),
        ({"lambda_csa": float("nan")}, "lambda_csa nan"),
        ({"temperature": 0.0}, "temperature is 0.0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RepMTL(**options)


def test_features_that_do_not_fit_are_refused():
    losses, features = pull(network(3), images(4, 3))
    with pytest.raises(ValueError, match="requires_grad=False"):
        RepMTL()(losses, features.detach())
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        RepMTL()(losses, features[:, 0, 0])
    other = features + 0
    with pytest.raises(ValueError, match="loss of 'a' does not depend on these features"):
        RepMTL()(losses, other)
