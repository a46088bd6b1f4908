"""Fisher-weighted averages: worked values, the formula with its options, and what is refused."""

import re

import pytest
import torch

from equipoise.merging import merge
from equipoise.merging.block import CHUNK
from equipoise.merging.fisher import Fisher


def drawn(shape=(5, 7), m=3, dtype=torch.float64):
    draw = torch.Generator().manual_seed(0)
    models = {f"m{i}": {"w": torch.randn(shape, generator=draw, dtype=dtype)} for i in range(m)}
    fisher = {name: {"w": torch.rand(shape, generator=draw, dtype=dtype)} for name in models}
    return models, fisher


def stacked(named, tensor="w"):
    return torch.stack([one[tensor] for one in named.values()])


@pytest.mark.parametrize("shape", [(), (4,), (5, 7), (2, 3, 3), (CHUNK + 9,)])
def test_formula(shape):
    """The paper's merge: sum_i w_i F_i theta_i / sum_i w_i F_i, element by element."""
    models, fisher = drawn(shape)
    weights = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64).view(-1, *[1] * len(shape))
    found = merge(models, method=Fisher(weight=[1.0, 2.0, 0.5], floor=0), statistics=fisher)["w"]
    f = weights * stacked(fisher)
    torch.testing.assert_close(found, (f * stacked(models)).sum(0) / f.sum(0))


def test_equal_information_is_the_average():
    models, fisher = drawn()
    same = dict.fromkeys(models, fisher["m0"])
    torch.testing.assert_close(merge(models, method="fisher", statistics=same)["w"], stacked(models).mean(0))


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("normalize", [None, "model", "tensor"])
def test_only_proportions_count(scale, normalize):
    """F of a model that has converged is far below the absolute floor of other programs."""
    models, fisher = drawn()
    small = {name: {"w": scale * one["w"]} for name, one in fisher.items()}
    rule = Fisher(floor=1e-3, normalize=normalize)
    found, same = (merge(models, method=rule, statistics=f)["w"] for f in (small, fisher))
    torch.testing.assert_close(found, same)


@pytest.mark.parametrize("threads", [1, 3])
def test_normalising_takes_away_the_scale_of_each_model(threads):
    models, fisher = drawn()
    louder = {name: {"w": 10**i * one["w"]} for i, (name, one) in enumerate(fisher.items())}
    for normalize in ("model", "tensor"):
        rule = Fisher(normalize=normalize, floor=0)
        found, same = (
            merge(models, method=rule, statistics=f, threads=threads)["w"] for f in (louder, fisher)
        )
        torch.testing.assert_close(found, same)
        f = stacked(fisher) / stacked(fisher).flatten(1).norm(dim=1).view(-1, 1, 1)
        torch.testing.assert_close(same, (f * stacked(models)).sum(0) / f.sum(0))


def test_norms_of_models_go_over_all_tensors():
    draw = torch.Generator().manual_seed(1)
    models = {n: {k: torch.randn(4, generator=draw) for k in "uv"} for n in "ab"}
    fisher = {n: {k: torch.rand(4, generator=draw) for k in "uv"} for n in "ab"}
    norms = [torch.cat([fisher[n]["u"], fisher[n]["v"]]).norm() for n in "ab"]
    f = [fisher[n]["u"] / norm for n, norm in zip("ab", norms, strict=True)]
    right = (f[0] * models["a"]["u"] + f[1] * models["b"]["u"]) / (f[0] + f[1])
    found = merge(models, method=Fisher(normalize="model", floor=0), statistics=fisher)
    torch.testing.assert_close(found["u"], right)


def test_a_weight_that_no_model_needs_is_averaged():
    models, fisher = drawn()
    for one in fisher.values():
        one["w"][2] = 0
    for floor in (0.0, 1e-6):
        found = merge(models, method=Fisher(floor=floor), statistics=fisher)["w"]
        torch.testing.assert_close(found[2], stacked(models)[:, 2].mean(0))


def test_one_model_is_itself_and_tensors_without_statistics_are_averaged():
    models, fisher = drawn(m=1)
    assert torch.equal(merge(models, method=Fisher(), statistics=fisher)["w"], models["m0"]["w"])
    models, fisher = drawn()
    models = {n: {**one, "v": one["w"] + 1} for n, one in models.items()}
    fisher["m0"]["v"] = fisher["m0"]["w"]
    found = merge(models, method=Fisher(weight=[1, 1, 2]), statistics=fisher)["v"]
    right = (stacked(models, "v") * torch.tensor([1, 1, 2]).view(-1, 1, 1)).sum(0) / 4
    torch.testing.assert_close(found, right)


def test_models_without_statistics_are_refused():
    models, fisher = drawn()
    with pytest.raises(ValueError, match=r"Fisher asks for statistics \('fisher'\) .* m0, m1, m2 has none"):
        merge(models, method="fisher")
    with pytest.raises(ValueError, match=r"m2 has none; measure"):
        merge(models, method="fisher", statistics={n: fisher[n] for n in ("m0", "m1")})
    with pytest.raises(ValueError, match=r"m1 has none \(statistics of m1 holds none of its tensors\)"):
        merge(models, method="fisher", statistics={**fisher, "m1": {"layer.w": fisher["m1"]["w"]}})
    with pytest.raises(ValueError, match="no model is called 'm3'"):
        merge(models, method="fisher", statistics={**fisher, "m3": fisher["m0"]})
    models = {n: {"v": one["w"], **one} for n, one in models.items()}
    swapped = {n: {"v" if n == "m1" else "w": one["w"]} for n, one in fisher.items()}
    with pytest.raises(ValueError, match=r"no tensor has them of every model"):
        merge(models, method="fisher", statistics=swapped)


def test_what_is_refused():
    models, fisher = drawn()
    for shape in ((5, 8), (7, 5)):  # one larger, one with as many elements
        wrong = {**fisher, "m1": {"w": torch.ones(shape)}}
        words = f"'w' of statistics of m1 (of m1) has shape {shape}; the tensor is (5, 7)"
        with pytest.raises(ValueError, match=re.escape(words)):
            merge(models, method=Fisher(), statistics=wrong)
    fisher["m1"]["w"][0, 0] = -1
    with pytest.raises(ValueError, match="'w' hold negative numbers, NaN or infinity for m1"):
        merge(models, method=Fisher(), statistics=fisher)
    with pytest.raises(ValueError, match="none may be negative"):
        merge(models, method=Fisher(weight=[1, 1, -1]), statistics=drawn()[1])
    with pytest.raises(ValueError, match="floor is -1"):
        Fisher(floor=-1)
