"""RegMean: the least squares it solves, the authors' factor off the diagonal, and what is refused."""

import pytest
import torch

from equipoise.merging import merge
from equipoise.merging.merge import carry_out, prepare
from equipoise.merging.regmean import RegMean

F64 = torch.float64


def drawn(out=4, width=6, samples=30, dtype=F64, seed=0):
    draw = torch.Generator().manual_seed(seed)
    models = {n: {"w": torch.randn(out, width, generator=draw, dtype=dtype)} for n in "abc"}
    inputs = {n: torch.randn(samples, width, generator=draw, dtype=dtype) for n in "abc"}
    return models, inputs, {n: {"w": x.T @ x} for n, x in inputs.items()}


def test_it_is_the_regression_on_all_inputs():
    """The paper's problem: one W for the outputs of every model on its own inputs, by least squares."""
    models, inputs, grams = drawn()
    x = torch.cat(list(inputs.values()))
    y = torch.cat([inputs[n] @ models[n]["w"].T for n in "abc"])
    found = merge(models, method=RegMean(ridge=0), statistics=grams)["w"]
    torch.testing.assert_close(found, torch.linalg.lstsq(x, y).solution.T)


def test_weights_and_the_factor_off_the_diagonal():
    """`reduce_non_diag` and `model_coeffs` of the authors' code: diagonals stay, coefficients multiply G."""
    models, _, grams = drawn()
    weights = {"a": 1.0, "b": 0.5, "c": 3.0}
    g = {n: one["w"] * (0.1 + 0.9 * torch.eye(6, dtype=F64)) * weights[n] for n, one in grams.items()}
    right = sum(models[n]["w"] @ g[n] for n in g) @ torch.linalg.inv(sum(g.values()))
    rule = RegMean(weight=weights, off_diagonal=0.1, ridge=0)
    torch.testing.assert_close(merge(models, method=rule, statistics=grams)["w"], right)


def test_without_off_diagonals_each_input_is_averaged_by_its_energy():
    models, _, grams = drawn()
    energy = torch.stack([one["w"].diagonal() for one in grams.values()])[:, None]
    w = torch.stack([one["w"] for one in models.values()])
    found = merge(models, method=RegMean(off_diagonal=0, ridge=0), statistics=grams)["w"]
    torch.testing.assert_close(found, (w * energy).sum(0) / energy.sum(0))


def test_a_convolution_is_the_layer_of_its_windows():
    draw = torch.Generator().manual_seed(5)
    kernels = {n: torch.randn(4, 3, 2, 2, generator=draw, dtype=F64) for n in "ab"}
    images = {n: torch.randn(6, 3, 5, 5, generator=draw, dtype=F64) for n in "ab"}
    windows = {n: torch.nn.functional.unfold(x, 2).mT.reshape(-1, 12) for n, x in images.items()}
    grams = {n: {"k": x.T @ x} for n, x in windows.items()}
    found = merge({n: {"k": k} for n, k in kernels.items()}, method=RegMean(ridge=0), statistics=grams)["k"]

    def error(kernel):
        gaps = [torch.conv2d(images[n], kernel) - torch.conv2d(images[n], kernels[n]) for n in "ab"]
        return torch.stack(gaps).square().sum()

    found.requires_grad_()
    gradient = torch.autograd.grad(error(found), found)[0]
    assert gradient.norm() < 1e-9 * error(found)


def test_few_samples_leave_the_rest_to_the_average():
    """Two inputs a model of forty: outputs on them are kept, and what no input meets is averaged."""
    models, inputs, grams = drawn(width=40, samples=2)
    found = merge(models, method=RegMean(), statistics=grams)["w"]
    for n, x in inputs.items():
        wanted = x @ models[n]["w"].T
        assert (x @ found.T - wanted).norm() < 0.02 * wanted.norm()
    seen = torch.linalg.qr(torch.cat(list(inputs.values())).T).Q
    unseen = torch.eye(40) - seen @ seen.T
    average = torch.stack([one["w"] for one in models.values()]).mean(0)
    torch.testing.assert_close(found @ unseen, average @ unseen)


def test_one_model_is_itself_and_tensors_without_statistics_are_averaged():
    models, _, grams = drawn(samples=2)
    alone = merge({"a": models["a"]}, method=RegMean(), statistics={"a": grams["a"]})["w"]
    assert torch.equal(alone, models["a"]["w"])
    models = {n: {**one, "s": torch.tensor(float(i))} for i, (n, one) in enumerate(models.items())}
    found = prepare(models, method=RegMean(), statistics=grams)
    assert found.notes == ("averaged, as not every model has statistics (gram) for them: s",)
    assert carry_out(found)["s"] == 1


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(("mean", "decades"), [(1.0, 2.0), (30.0, 1.0)])
def test_a_few_strong_inputs_do_not_drown_the_others(dtype, mean, decades):
    """Inputs with a mean far above their spread: outputs as near as the ridge allows, from stored Grams."""
    draw = torch.Generator().manual_seed(0)
    spread = torch.logspace(0, -decades, 256, dtype=F64)
    around = mean * torch.randn(256, generator=draw, dtype=F64)
    inputs = [around + spread * torch.randn(1000, 256, generator=draw, dtype=F64) for _ in range(2)]
    layers = torch.randn(2, 8, 256, generator=draw)
    grams = [x.T @ x for x in inputs]

    def error(layer):
        gaps = [x @ (layer.double() - own).T for x, own in zip(inputs, layers.double(), strict=True)]
        return float(torch.stack(gaps).square().sum())

    total, centre = grams[0] + grams[1], layers.double().mean(0)
    lifted = total + 1e-4 * total.diagonal().mean() * torch.eye(256, dtype=F64)
    pulls = ((layers.double() - centre) @ torch.stack(grams)).sum(0)
    best = centre + torch.linalg.solve(lifted, pulls.T).T
    stored = {n: {"w": gram.to(dtype)} for n, gram in zip("ab", grams, strict=True)}
    found = merge(
        {n: {"w": own} for n, own in zip("ab", layers, strict=True)}, method=RegMean(), statistics=stored
    )["w"]
    assert error(found) - error(best) < 1e-3 * (error(centre) - error(best))


def test_what_is_refused():
    models, _, grams = drawn()
    turned = {**grams, "b": {"w": torch.eye(4, dtype=F64)}}
    with pytest.raises(
        ValueError, match=r"'w' of .*of b\) has shape \(4, 4\); the tensor is \(4, 6\).*\(6, 6\)"
    ):
        merge(models, method=RegMean(), statistics=turned)
    with pytest.raises(ValueError, match="weights are a: 1, b: -1, c: 1; none may be negative"):
        merge(models, method=RegMean(weight=[1, -1, 1]), statistics=grams)
    grams["b"]["w"][0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"no Gram matrix for b"):
        merge(models, method=RegMean(), statistics=grams)
    with pytest.raises(ValueError, match="ridge is nan"):
        RegMean(ridge=float("nan"))
    with pytest.raises(ValueError, match="off_diagonal is 2"):
        RegMean(off_diagonal=2)
