"""Models for every preference: what they are at one, what they keep, and that a file gives them back."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from equipoise.pareto.conditioned import Conditioned, Ensemble, Hypernetwork, LowRank, trained

NAMES = ("left", "right")
KINDS = (Ensemble, Hypernetwork, LowRank)


class Odd(nn.Module):
    """Buffers, a frozen parameter, a scalar, a shared weight and a convolution."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, dtype=dtype)
        self.norm = nn.BatchNorm2d(3, dtype=dtype)
        self.inner = nn.Linear(3, 3, dtype=dtype)
        self.outer = nn.Linear(3, 3, bias=False, dtype=dtype)
        self.outer.weight = self.inner.weight
        self.gain = nn.Parameter(torch.ones((), dtype=dtype))
        self.fixed = nn.Parameter(torch.full((2,), 7.0, dtype=dtype), requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.norm(self.conv(images)).relu().mean((2, 3))
        return self.gain * self.outer(self.inner(features))


def made(kind: type[Conditioned], dtype: torch.dtype = torch.float32) -> tuple[Conditioned, Odd]:
    torch.manual_seed(0)
    model = Odd(dtype)
    found = kind(NAMES, trained(model))
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.norm.running_mean.fill_(3.0)
    found.keep(model)
    return found, model


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_at_a_preference_is_a_whole_state_of_the_model(kind):
    found, model = made(kind)
    state = found.at([0.3, 0.7])
    model.load_state_dict(state)
    assert {name: tensor.dtype for name, tensor in state.items()} == {
        name: tensor.dtype for name, tensor in model.state_dict().items()
    }
    assert torch.equal(state["outer.weight"], state["inner.weight"])
    assert state["norm.running_mean"].tolist() == [3.0] * 3
    assert state["fixed"].tolist() == [7.0, 7.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_file_gives_it_back(tmp_path: Path, kind, dtype):
    found, _ = made(kind, dtype)
    found.save(tmp_path / "front.safetensors")
    loaded = Conditioned.load(tmp_path / "front.safetensors")
    assert type(loaded) is kind
    for wish in ([1, 0], [0.2, 0.8], None):
        one, other = found.at(wish), loaded.at(wish)
        assert list(one) == list(other)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_file_is_refused(tmp_path: Path):
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no conditioned model"):
        Conditioned.load(tmp_path / "other.safetensors")


def test_a_kind_that_is_not_known_is_refused_with_its_neighbours(tmp_path: Path, monkeypatch):
    found, _ = made(LowRank)
    found.save(tmp_path / "front.safetensors")
    monkeypatch.setattr(Conditioned, "kinds", {"LowRanks": LowRank})
    with pytest.raises(ValueError, match="'LowRank'; nearest: LowRanks"):
        Conditioned.load(tmp_path / "front.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_a_preference_may_be_named_and_must_fit(kind):
    found, _ = made(kind)
    named, plain, none = found.at({"right": 3, "left": 1}), found.at([1.0, 3.0]), found.at()
    assert all(torch.equal(named[name], plain[name]) for name in plain)
    assert all(torch.equal(none[name], other) for name, other in found.at([1.0, 1.0]).items())
    with pytest.raises(ValueError, match="2 objectives: left, right"):
        found.at([1.0, 0.0, 0.0])


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_is_learned_has_a_gradient(kind):
    found, _ = made(kind)
    sum(tensor.square().sum() for tensor in found(torch.tensor([0.4, 0.6])).values()).backward()
    assert all(
        p.grad is not None and bool(p.grad.isfinite().all()) for p in found.parameters() if p.requires_grad
    )


def test_an_ensemble_is_the_weighted_mean_of_its_members():
    """As in the authors' layers: the weight is the sum of the members' weights times alpha."""
    members = [{"x": torch.tensor([[1.0, 2.0]])}, {"x": torch.tensor([[3.0, -2.0]])}]
    found = Ensemble(NAMES, members[0], bases=members)
    assert found.at([1, 0])["x"].tolist() == [[1.0, 2.0]]
    assert found.at([0, 1])["x"].tolist() == [[3.0, -2.0]]
    assert found.at([0.25, 0.75])["x"].tolist() == [[2.5, -1.0]]


def test_updates_of_low_rank_start_at_the_model_and_have_that_rank():
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(6, 5))
    torch.manual_seed(1)
    found = LowRank(NAMES, trained(model), rank=2, scale=0.5)
    for name, tensor in found.at([0.1, 0.9]).items():
        assert torch.equal(tensor, model.state_dict()[name])
    with torch.no_grad():
        for left in found.left:
            left.normal_()
    first = found.at([1, 0])
    for name, rank in (("0.weight", 2), ("2.weight", 2)):
        update = (first[name] - model.state_dict()[name]).flatten(1)
        assert int(torch.linalg.matrix_rank(update, atol=1e-5)) == rank
    middle, second = found.at([0.5, 0.5]), found.at([0, 1])
    for name, tensor in middle.items():
        assert torch.allclose(tensor, (first[name] + second[name]) / 2, atol=1e-6)


def test_the_scale_scales_the_updates():
    base = {"x": torch.zeros(3, 2)}
    torch.manual_seed(2)
    found = LowRank(NAMES, base, rank=1, scale=1.0)
    with torch.no_grad():
        found.left[0].normal_()
    half = LowRank(NAMES, base, rank=1, scale=0.5)
    half.load_state_dict(found.state_dict())
    assert torch.allclose(half.at([0.3, 0.7])["x"], found.at([0.3, 0.7])["x"] / 2)


def test_the_overlap_is_that_of_the_flattened_updates():
    """0 for orthogonal ones; else what is off the diagonal of W'W, W the normalised updates, by lengths."""
    names = ("a", "b", "c")
    found = LowRank(names, {"x": torch.zeros(2, 3), "bias": torch.zeros(3)}, rank=2)
    updates = torch.zeros(3, 2, 3)
    updates[0, 0, 0], updates[1, 1, 2] = 2.0, -5.0
    updates[2] = 3 * updates[0] / 2 + 4 * updates[1] / 5
    with torch.no_grad():
        found.left[0].copy_(torch.eye(2).expand(3, 2, 2))
        found.right[0].copy_(updates)
        assert float(found.overlap([0, 1])) == 0.0
        columns, lengths = nn.functional.normalize(updates.flatten(1)), updates.flatten(1).norm(dim=1)
        expected = (columns @ columns.T).square() * lengths[:, None] * lengths
        assert float(found.overlap()) == pytest.approx(float(expected.sum() - expected.trace()))
        assert float(found.overlap()) == pytest.approx(2 * (0.36 * 2 * 5 + 0.64 * 5 * 5))


def test_updates_that_are_zero_have_no_overlap():
    found, _ = made(LowRank)
    with torch.no_grad():
        for left in found.left:
            left.zero_()
    assert float(found.overlap()) == 0.0


@pytest.mark.parametrize("size", [1e-18, 1e-9, 1e9])
def test_the_overlap_pulls_in_proportion_to_the_updates(size):
    found, _ = made(LowRank)
    with torch.no_grad():
        for left in found.left:
            left.mul_(size)
    found.overlap().backward()
    pulls = [left.grad.norm() / left.norm() for left in found.left if left.grad is not None]
    assert all(0 < float(pull.detach()) < 100 for pull in pulls)


def test_a_model_that_learns_nothing_is_refused():
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        trained(nn.ReLU())
