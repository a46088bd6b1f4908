"""Per-sample gradients equal those of an explicit loop, and touch nothing."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import equipoise

N = 5


def loop(model: nn.Module, loss: Callable[..., Tensor], inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """One backward pass per sample."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rows: dict[str, list[Tensor]] = {name: [] for name in trained}
    for x, y in zip(inputs, targets, strict=True):
        found = torch.autograd.grad(loss(model(x[None]), y[None]), list(trained.values()), allow_unused=True)
        for (name, parameter), gradient in zip(trained.items(), found, strict=True):
            rows[name].append(torch.zeros_like(parameter) if gradient is None else gradient.to_dense())
    return {name: torch.stack(row) for name, row in rows.items()}


class Words(nn.Module):
    """Embedding, mean over the words, layer norm, classifier; the classifier may be the embedding."""

    def __init__(self, tied: bool = False, sparse: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4, padding_idx=0, sparse=sparse)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.norm(self.embedding(words).mean(1)))


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell = cell(3, 4, batch_first=True)
        self.head = nn.Linear(4, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


class Reused(nn.Module):
    """One layer applied three times, and one never."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.idle = nn.Linear(4, 4), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(self.layer(x).tanh()).tanh())


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, stride=2),
        nn.GroupNorm(2, 4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.InstanceNorm2d(4, affine=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 7),
    )


def attention() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(24, 7))


def normalised_by_statistics() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 7))
    for _ in range(3):
        model(torch.randn(8, 4))
    return model.eval()


ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...] | None]] = {
    "linear": (lambda: nn.Linear(4, 7), (4,)),
    "convolutional": (convolutional, (2, 8, 8)),
    "embedding and layer norm": (Words, None),
    "tied embedding": (lambda: Words(tied=True), None),
    "attention": (attention, (3, 8)),
    "attention in eval mode": (lambda: attention().eval(), (3, 8)),
    "lstm": (lambda: Recurrent(nn.LSTM), (6, 3)),
    "reused layer": (Reused, (4,)),
    "batch norm in eval mode": (normalised_by_statistics, (4,)),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 7)), (4,)),
}
LOOPED = {
    "sparse embedding": (lambda: Words(sparse=True), None),
    "gru": (lambda: Recurrent(nn.GRU), (6, 3)),
}


def drawn(shape: tuple[int, ...] | None) -> tuple[Tensor, Tensor]:
    return torch.randint(7, (N, 4)) if shape is None else torch.randn(N, *shape), torch.randint(4, (N,))


def check(name: str, chunk: int | None) -> None:
    torch.manual_seed(0)
    make, shape = (ARCHITECTURES | LOOPED)[name]
    model = make()
    inputs, targets = drawn(shape)
    before = copy.deepcopy(model.state_dict())
    bundle = equipoise.sample_gradients(model, F.cross_entropy, inputs, targets, chunk=chunk)
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    expected = loop(model, F.cross_entropy, inputs, targets)
    assert set(bundle.blocks) == set(expected)
    for block, rows in expected.items():
        torch.testing.assert_close(bundle.blocks[block], rows, rtol=1e-4, atol=3e-6)
        assert not bundle.blocks[block].requires_grad


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("chunk", [None, 2, 1])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rows_are_those_of_a_loop_over_the_samples(name: str, chunk: int | None):
    check(name, chunk)


@pytest.mark.parametrize("name", LOOPED)
def test_what_vmap_does_not_know_works_one_by_one(name: str):
    check(name, 1)


def test_a_failure_of_vmap_says_how_to_go_without():
    model = Recurrent(nn.GRU)
    with pytest.raises(RuntimeError) as caught:
        equipoise.sample_gradients(model, F.cross_entropy, *drawn((6, 3)))
    assert any("chunk=1" in note for note in caught.value.__notes__)


def test_rows_of_means_sum_to_the_gradient_of_the_mean():
    torch.manual_seed(0)
    model, (x, y) = convolutional(), drawn((2, 8, 8))
    bundle = equipoise.sample_gradients(model, F.cross_entropy, x, y)
    F.cross_entropy(model(x), y).backward()
    mean = bundle.combine([1 / N] * N)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(mean[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 7))
    model[0].requires_grad_(False)
    x, y = drawn((4,))
    bundle = equipoise.sample_gradients(model, F.cross_entropy, x, y)
    assert list(bundle.blocks) == ["1.weight", "1.bias"]
    torch.testing.assert_close(bundle.blocks["1.weight"], loop(model, F.cross_entropy, x, y)["1.weight"])
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        equipoise.sample_gradients(model, F.cross_entropy, x, y)


@pytest.mark.parametrize("chunk", [None, 1])
def test_dropout_draws_for_each_sample(chunk: int | None):
    """The same sample eight times: equal rows without dropout, different ones with it."""
    torch.manual_seed(0)
    x, y = torch.randn(1, 16).expand(8, 16), torch.zeros(8, dtype=torch.long)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(16, 3))
    rows = equipoise.sample_gradients(model, F.cross_entropy, x, y, chunk=chunk).blocks["1.weight"]
    assert len(torch.unique(rows, dim=0)) == 8
    rows = equipoise.sample_gradients(model.eval(), F.cross_entropy, x, y, chunk=chunk).blocks["1.weight"]
    torch.testing.assert_close(rows, rows[:1].expand_as(rows))


class Never(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("the model ran")


COUPLED: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm1d": lambda: nn.BatchNorm1d(4),
    "BatchNorm2d": lambda: nn.BatchNorm2d(4, track_running_stats=False).eval(),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(4),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(4, track_running_stats=True),
    "Embedding": lambda: nn.Embedding(3, 4, max_norm=1.0).eval(),
    "EmbeddingBag": lambda: nn.EmbeddingBag(3, 4, max_norm=1.0),
}


@pytest.mark.parametrize("kind", COUPLED)
def test_modules_that_mix_samples_are_refused_by_path_before_anything_runs(kind: str):
    model = nn.Sequential(Never(), nn.ModuleDict({"deep": nn.Sequential(nn.Linear(2, 2), COUPLED[kind]())}))
    with pytest.raises(ValueError, match=rf"1\.deep\.1 \({kind}\): "):
        equipoise.sample_gradients(model, F.cross_entropy, *drawn((4,)))


@pytest.mark.parametrize(
    "module",
    [nn.BatchNorm1d(4).eval(), nn.InstanceNorm1d(4), nn.InstanceNorm1d(4, track_running_stats=True).eval()],
    ids=["batch norm in eval", "instance norm", "instance norm in eval"],
)
def test_the_same_modules_pass_where_they_do_not_mix(module: nn.Module):
    model = nn.Sequential(nn.Linear(4, 4), nn.Unflatten(1, (4, 1)), nn.ConstantPad1d((0, 2), 1.0), module)
    bundle = equipoise.sample_gradients(model, lambda out, y: out.square().sum(), *drawn((4,)))
    assert bundle.blocks["0.weight"].shape == (N, 4, 4)


class Counter(nn.Module):
    """Counts its calls in a buffer, as some modules do."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.linear = nn.Linear(4, 7)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.linear(x)


@pytest.mark.parametrize("chunk", [None, 1])
def test_buffers_that_the_model_writes_stay_as_they_were(chunk: int | None):
    model = Counter()
    x, y = drawn((4,))
    bundle = equipoise.sample_gradients(model, F.cross_entropy, x, y, chunk=chunk)
    assert model.calls == 0
    torch.testing.assert_close(
        bundle.blocks["linear.weight"], loop(model.linear, F.cross_entropy, x, y)["weight"]
    )


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        return {"sum": self.linear(left + 2 * right)}


def test_inputs_may_be_positional_or_named_and_targets_nested():
    torch.manual_seed(0)
    model, left, right, y = Two(), torch.randn(N, 4), torch.randn(N, 4), torch.randn(N, 1)

    def loss(out: dict[str, Tensor], target: Any) -> Tensor:
        return (out["sum"] - target["y"]).square().sum()

    for inputs in ((left, right), [left, right], {"right": right, "left": left}):
        for chunk in (None, 1):
            rows = equipoise.sample_gradients(model, loss, inputs, {"y": y}, chunk=chunk).blocks[
                "linear.weight"
            ]
            residual = (model(left, right)["sum"] - y).detach()
            torch.testing.assert_close(rows[:, 0], 2 * residual * (left + 2 * right))
    free = equipoise.sample_gradients(model, lambda out, _: out["sum"].sum(), (left, right), None)
    torch.testing.assert_close(free.blocks["linear.weight"][:, 0], left + 2 * right)


def test_names_are_given_or_counted():
    model, (x, y) = nn.Linear(4, 7), drawn((4,))
    assert equipoise.sample_gradients(model, F.cross_entropy, x, y).names == ("0", "1", "2", "3", "4")
    named = equipoise.sample_gradients(model, F.cross_entropy, x, y, names=list("abcde"))
    assert named.names == ("a", "b", "c", "d", "e")
    with pytest.raises(ValueError, match="2 names for 5 samples"):
        equipoise.sample_gradients(model, F.cross_entropy, x, y, names=["a", "b"])


def test_gradients_keep_the_dtype_of_their_parameter():
    model = nn.Sequential(nn.Linear(4, 4).double(), nn.Linear(4, 7).double())
    model[1].bias = nn.Parameter(torch.zeros(7))  # float32 in a float64 model
    x, y = drawn((4,))
    bundle = equipoise.sample_gradients(model, lambda out, y: F.cross_entropy(out, y), x.double(), y)
    assert bundle.blocks["0.weight"].dtype == torch.float64
    assert bundle.blocks["1.bias"].dtype == torch.float32


def test_a_surrounding_no_grad_changes_nothing():
    model, (x, y) = nn.Linear(4, 7), drawn((4,))
    with torch.no_grad():
        bundle = equipoise.sample_gradients(model, F.cross_entropy, x, y)
    torch.testing.assert_close(bundle.blocks["weight"], loop(model, F.cross_entropy, x, y)["weight"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"targets": torch.zeros(4, dtype=torch.long)}, ValueError, r"one first dimension.*\(5, 4\), \(4,\)"),
        ({"inputs": torch.zeros(0, 4), "targets": torch.zeros(0)}, ValueError, "n >= 1 samples"),
        ({"inputs": torch.tensor(1.0)}, ValueError, "one first dimension"),
        ({"inputs": ["text"] * 5}, TypeError, "hold tensors, not str"),
        ({"chunk": 0}, ValueError, "chunk is 0"),
        ({"loss": lambda out, y: out.sum(1)}, ValueError, r"loss returned shape \(1,\)"),
        ({"loss": lambda out, y: 1.0}, ValueError, "loss returned float"),
        ({"model": nn.Linear(4, 7, dtype=torch.complex64)}, ValueError, "weight, bias are complex"),
    ],
    ids=["sizes", "empty", "no dimension", "text", "chunk", "vector loss", "number loss", "complex"],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], error: type[Exception], message: str):
    x, y = drawn((4,))
    given = {"model": nn.Linear(4, 7), "loss": F.cross_entropy, "inputs": x, "targets": y} | arguments
    with pytest.raises(error, match=message):
        equipoise.sample_gradients(**given)
