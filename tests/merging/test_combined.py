"""The combined model equals the streamed merge, and its gradients those of the sum written out."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from equipoise.core.errors import NonFiniteDirection
from equipoise.merging import Combined, merge
from equipoise.merging.combined import turns


class Stack(nn.Module):
    """Two layers in a stack, a normalisation with float buffers, a tied head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 6, bias=False)
        self.layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        x = self.embed(x)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.norm(x) @ self.head.weight


def drawn(seed):
    torch.manual_seed(seed)
    model = Stack().eval()
    with torch.no_grad():
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 2.0)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def cast():
    return Stack().eval(), {"a": drawn(1), "b": drawn(2), "c": drawn(3)}, drawn(0)


@pytest.mark.parametrize(("by", "groups"), [("task", 1), ("layer", 7), ("tensor", 9)])
def test_the_method_merges_to_what_the_combined_model_holds(by, groups):
    """Groups: the tied weight is one tensor; two layers of two tensors each, four tensors of the norm."""
    model, experts, base = cast()
    combined = Combined(model, experts, base, by=by)
    assert len(combined.group_names) == groups
    with torch.no_grad():
        combined.weights.copy_(torch.rand(groups, 3) / 3)  # a variance stays positive
    x = torch.randn(5, 4)
    merged = merge(experts, base, method=combined.coefficients())
    for name, tensor in combined.tensors().items():
        torch.testing.assert_close(merged[name], tensor, rtol=1e-5, atol=1e-6)
    assert torch.equal(merged["head.weight"], merged["embed.weight"])
    loaded = Stack().eval()
    loaded.load_state_dict(merged)
    right = loaded(x)
    torch.testing.assert_close(combined(x), right, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(combined.call(lambda held: held(x)), right, rtol=1e-5, atol=1e-5)


def test_the_method_streams_from_files(tmp_path):
    from safetensors.torch import load_file, save_file

    model, experts, base = cast()
    for name, tensors in {**experts, "base": base}.items():
        kept = {k: v.clone() for k, v in tensors.items()}
        save_file(kept, tmp_path / f"{name}.safetensors")
    paths = {name: tmp_path / f"{name}.safetensors" for name in experts}
    combined = Combined(model, paths, tmp_path / "base.safetensors", by="tensor")
    with torch.no_grad():
        combined.weights.copy_(torch.rand(9, 3))
    method = combined.coefficients()
    merge(paths, tmp_path / "base.safetensors", method=method, out=tmp_path / "out")
    held = merge(experts, base, method=method)
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(written[name], held[name]) for name in base)


def test_gradients_are_inner_products_with_task_vectors():
    """d loss / d c_i = <delta_i, d loss / d theta>, the paper's reason why m numbers can be tuned."""
    model, experts, base = cast()
    combined = Combined(model, experts, base, start=0.3)
    x = torch.randn(5, 4)
    combined(x).square().sum().backward()
    tensors = {name: tensor.detach() for name, tensor in combined.tensors().items()}
    trained = [name for name, _ in model.named_parameters()]
    leaves = [tensors[name].requires_grad_() for name in trained]
    gradients = torch.autograd.grad(functional_call(model, tensors, (x,)).square().sum(), leaves)
    right = [
        sum(
            float(((expert[name] - base[name]) * gradient).sum())
            for name, gradient in zip(trained, gradients, strict=True)
        )
        for expert in experts.values()
    ]
    torch.testing.assert_close(combined.weights.grad, torch.tensor([right]), rtol=1e-4, atol=1e-4)
    assert list(dict(combined.named_parameters())) == ["weights"]


def test_a_checkpoint_may_leave_out_the_second_name_of_a_tied_weight():
    model, experts, base = cast()
    del experts["a"]["head.weight"], base["embed.weight"]
    found = Combined(model, experts, base, start=1.0).tensors()["embed.weight"]
    total = sum(expert["embed.weight"] for expert in experts.values()) - 2 * base["head.weight"]
    torch.testing.assert_close(found, total)


def test_faults_are_named():
    model, experts, base = cast()
    with pytest.raises(ValueError, match=r"b has no tensor 'norm.weight'"):
        Combined(model, {**experts, "b": {k: v for k, v in experts["b"].items() if k != "norm.weight"}}, base)
    with pytest.raises(ValueError, match="tensor 'more' is not in the model"):
        Combined(model, {"a": {**experts["a"], "more": torch.ones(2)}}, base)
    with pytest.raises(ValueError, match=r"a: tensor 'norm.weight' has shape \(2,\)"):
        Combined(model, {"a": {**experts["a"], "norm.weight": torch.ones(2)}}, base)
    with pytest.raises(NonFiniteDirection, match=r"norm\.weight"):
        Combined(model, {"a": {**experts["a"], "norm.weight": torch.full((6,), float("nan"))}}, base)
    with pytest.raises(ValueError, match="nearest: tensor"):
        Combined(model, experts, base, by="tensors")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="no weights were found for it"):
        Combined(model, experts, base).coefficients()("other")


def test_batches_begin_anew_task_by_task():
    found = turns({"a": [1, 2], "b": [3]})
    assert [next(found) for _ in range(3)] == [{"a": 1, "b": 3}, {"a": 2, "b": 3}, {"a": 1, "b": 3}]
    once = turns({"a": iter([1])})
    next(once)
    with pytest.raises(ValueError, match="batches of a are none, or end for good"):
        next(once)
    with pytest.raises(ValueError, match="no batches"):
        next(turns({}))
