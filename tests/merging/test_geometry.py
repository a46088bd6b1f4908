"""Methods on the sphere and by angles: equal to mergekit's, and to what their formulas promise."""

import json
import math

import pytest
import torch

from equipoise.merging import (
    Average,
    Karcher,
    ModelStock,
    MultiSlerp,
    NuSlerp,
    Passthrough,
    Slerp,
    merge,
)
from equipoise.merging.block import CHUNK
from equipoise.merging.multislerp import mean_direction


def drawn(*shape, seed=0, m=3, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(m + 1, *shape, generator=draw, dtype=torch.float64).to(dtype)
    return {name: {"w": row} for name, row in zip("abcdefgh", rows[1:], strict=False)}, {"w": rows[0]}


def merged(method, models, base=None):
    return merge(models, base, method=method)["w"]


# method, models by their places, base given, key, absolute tolerance in float64
MERGEKIT = [
    (Slerp(t=0.3), (0, 1), False, "slerp t=.3 (base=F0, other=F1)", 1e-12),
    (NuSlerp(weight=[0.4, 0.6]), (0, 1), False, "nuslerp w=.4,.6", 1e-12),
    # mergekit divides by norm + 1e-8
    (MultiSlerp(weight=[0.2, 0.3, 0.5]), (0, 1, 2), False, "multislerp w=.2,.3,.5", 1e-7),
    (Karcher(), (0, 1, 2), False, "karcher", 1e-12),
    (ModelStock(), (0, 1, 2), True, "model_stock", 1e-12),
    # in one filter the cosine is negative
    (ModelStock(filter_wise=True, clamp=False), (0, 1, 2), True, "model_stock filter_wise", 1e-12),
]


@pytest.mark.parametrize(("method", "places", "with_base", "key", "tolerance"), MERGEKIT)
def test_equals_mergekit(method, places, with_base, key, tolerance, vectors_folder):
    vectors = json.loads((vectors_folder / "merging.json").read_text())
    result = vectors["results"][f"mergekit==0.1.5 merge_tensors {key}"]
    tuned = vectors["inputs"]["finetuned"]
    models = [{"w": torch.tensor(tuned[i], dtype=torch.float64)} for i in places]
    base = {"w": torch.tensor(vectors["inputs"]["base"], dtype=torch.float64)}
    expected = torch.tensor(result["output"], dtype=torch.float64)
    found = merged(method, models, base if with_base else None)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("method", [Slerp(t=0.2), NuSlerp(weight=[0.8, 0.2])])
def test_an_arc_turns_at_an_even_rate(method):
    """Shoemake 1985: on the unit circle the point at share t stands at t times the angle."""
    angle = 2.5
    models = [{"w": torch.tensor([math.cos(a), math.sin(a)], dtype=torch.float64)} for a in (0.0, angle)]
    right = torch.tensor([math.cos(0.2 * angle), math.sin(0.2 * angle)], dtype=torch.float64)
    torch.testing.assert_close(merged(method, models), right)


def test_the_ends_of_an_arc_are_the_models():
    models, base = drawn(CHUNK + 5, m=2, dtype=torch.float32)
    for t, name in ((0.0, "a"), (1.0, "b")):
        torch.testing.assert_close(merged(Slerp(t=t), models), models[name]["w"])
        torch.testing.assert_close(merged(NuSlerp(weight=[1 - t, t]), models, base), models[name]["w"])


@pytest.mark.parametrize("shape", [(4, 6), (3, 2, 2, 5), (2, 3, CHUNK // 4 + 1), (2, CHUNK + 3)])
def test_nuslerp_by_rows_and_columns_is_nuslerp_of_each(shape):
    models, base = drawn(*shape, m=2)
    weight = [0.3, 0.9]
    tensors = (base, *models.values())
    for method, axis in ((NuSlerp(weight, "rows"), -1), (NuSlerp(weight, "columns"), 0)):
        found = merged(method, models, base).movedim(axis, -1)
        origin, one, two = (tensor["w"].movedim(axis, -1) for tensor in tensors)
        places = [(0,) * (len(shape) - 1), tuple(n - 1 for n in found.shape[:-1])]
        for at in places:
            alone = merged(NuSlerp(weight=weight), [{"w": one[at]}, {"w": two[at]}], {"w": origin[at]})
            torch.testing.assert_close(found[at], alone)


def test_multislerp_and_karcher_keep_the_mean_length():
    models, _ = drawn(6, 50)
    length = torch.stack([model["w"].norm() for model in models.values()]).mean()
    for method in (MultiSlerp(), Karcher()):
        torch.testing.assert_close(merged(method, models).norm(), length)


def test_of_two_models_of_one_length_karcher_is_slerp():
    """The mean of two points of a sphere is the point at share w_2 of their arc."""
    models, _ = drawn(40, m=2)
    models = {name: {"w": model["w"] / model["w"].norm()} for name, model in models.items()}
    found = merged(Karcher(weight=[0.7, 0.3], max_iter=100, tol=1e-12), models)
    torch.testing.assert_close(found, merged(Slerp(t=0.3), models))


def test_the_tangents_at_the_karcher_mean_cancel():
    models, _ = drawn(30)
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    mean = merged(Karcher(weight=weights.tolist(), max_iter=100, tol=1e-13), models)
    mean = mean / mean.norm()
    units = torch.stack([model["w"] / model["w"].norm() for model in models.values()])
    dots = units @ mean
    tangents = (dots.acos() / (1 - dots**2).sqrt())[:, None] * (units - dots[:, None] * mean)
    assert float((weights @ tangents).norm()) < 1e-12


def test_mean_direction_is_orthogonal_to_its_tangent_mean():
    """The tangent step of multislerp vanishes: sum_i w_i (u_i - <u_i, u> u) = 0 at u, the mean direction."""
    models, _ = drawn(30)
    rows = torch.stack([model["w"] for model in models.values()])
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    mean = mean_direction(rows @ rows.T, weights) @ rows
    mean = mean / mean.norm()
    units = rows / rows.norm(dim=1, keepdim=True)
    assert float((weights @ (units - (units @ mean)[:, None] * mean)).norm()) < 1e-14


@pytest.mark.parametrize(
    ("degrees", "t"), [(60.0, 2 / 3), (90.0, 0.0), (0.0, 1.0), (180.0, 0.0), (120.0, -2.0)]
)
@pytest.mark.parametrize("clamp", [False, True])
def test_model_stock_of_two_models(degrees, t, clamp):
    """Equation 3 of the paper: t = 2 cos / (1 + cos); opposites leave the base, as all beyond 90 degrees."""
    a = math.radians(degrees)
    models = [{"w": torch.tensor([math.cos(x), math.sin(x)], dtype=torch.float64)} for x in (0.0, a)]
    mean = (models[0]["w"] + models[1]["w"]) / 2
    found = merged(ModelStock(clamp=clamp), models, {"w": torch.zeros(2).double()})
    torch.testing.assert_close(found, max(t, 0.0) * mean if clamp else t * mean)


@pytest.mark.parametrize("filter_wise", [False, True])
def test_model_stock_stays_between_the_base_and_the_average(filter_wise):
    """Near opposites the formula runs away: by a factor of some thousands here."""
    models = [{"w": torch.tensor([row])} for row in ([1.0, 0.0], [-3.0, 0.1])]
    base = {"w": torch.zeros(1, 2)}
    torch.testing.assert_close(merged(ModelStock(filter_wise), models, base), base["w"])
    assert float(merged(ModelStock(filter_wise, clamp=False), models, base).norm()) > 1000


@pytest.mark.parametrize("filter_wise", [False, True])
def test_model_stock_does_not_depend_on_the_length_of_the_task_vectors(filter_wise):
    """A fixed epsilon in the cosine would draw small task vectors to the base."""
    models, _ = drawn(5, 8)
    zero = {"w": torch.zeros(5, 8, dtype=torch.float64)}
    found = merged(ModelStock(filter_wise), models, zero)
    small = {name: {"w": model["w"] * 1e-9} for name, model in models.items()}
    torch.testing.assert_close(merged(ModelStock(filter_wise), small, zero) * 1e9, found)


@pytest.mark.parametrize("shape", [(5, 8), (3, 2, 2, 5), (2, 3, CHUNK // 4 + 1)])
def test_model_stock_by_filter_is_model_stock_of_each(shape):
    models, base = drawn(*shape)
    found = merged(ModelStock(filter_wise=True), models, base)
    for i in range(shape[0]):
        each = [{"w": model["w"][i]} for model in models.values()]
        torch.testing.assert_close(found[i], merged(ModelStock(), each, {"w": base["w"][i]}))


TWO = [Slerp(), NuSlerp(), NuSlerp(vectors="rows"), NuSlerp(vectors="columns")]
MANY = [MultiSlerp(), Karcher(), ModelStock(), ModelStock(filter_wise=True)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", [*TWO, *MANY])
def test_opposites_duplicates_and_zeros_give_finite_values_of_the_models_size(method, dtype):
    models, base = drawn(7, 9, m=2, dtype=dtype)
    one, zero = models["a"]["w"], torch.zeros_like(models["a"]["w"])
    nearly = -one + 1e-7 * models["b"]["w"]
    for pair in ([one, -one], [one, nearly], [one, -0.3 * one], [one, zero], [zero, zero], [one, one]):
        for origin in ({"w": zero}, base, *([] if method.needs_base else [None])):
            given = [{"w": tensor if origin is not base else tensor + base["w"]} for tensor in pair]
            found = merged(method, given, origin)
            assert found.isfinite().all()
            assert float(found.norm()) <= 2 * float(one.norm() + base["w"].norm())
    same = merged(method, [{"w": one}] * 2, base)
    torch.testing.assert_close(same, one)


def test_opposite_task_vectors_are_averaged():
    one = torch.tensor([1.0, 2.0, 3.0])
    models, base = [{"w": one}, {"w": -one}], {"w": torch.zeros(3)}
    torch.testing.assert_close(merged(NuSlerp(weight=[0.75, 0.25]), models, base), 0.5 * one)
    torch.testing.assert_close(merged(MultiSlerp(), models, base), torch.zeros(3))


def test_three_models_are_two_too_many_arcs():
    models, base = drawn(4)
    for method in (Slerp(), NuSlerp()):
        with pytest.raises(ValueError, match=r"merges two models, and 3 are given: a, b, c"):
            merged(method, models, base)


@pytest.mark.parametrize("kind", [NuSlerp, MultiSlerp, Karcher])
def test_weights_that_sum_to_zero_are_refused(kind):
    models, _ = drawn(4, m=2)
    with pytest.raises(ValueError, match=r"the weights of a, b sum to 0"):
        merged(kind(weight=[1, -1]), models)


def test_relative_false_takes_the_models_although_there_is_a_base():
    models, base = drawn(5, m=2)
    for kind in (NuSlerp, MultiSlerp):
        found = merged(kind(relative=False), models, base)
        assert torch.equal(found, merged(kind(), models))
        assert not torch.allclose(found, merged(kind(), models, base))


def test_near_models_are_averaged():
    """On a small arc the sphere is flat."""
    models, _ = drawn(200, m=1)
    near = [{"w": models["a"]["w"]}, {"w": models["a"]["w"] + 1e-6 * drawn(200, seed=1)[1]["w"]}]
    average = merged(Average(), near)
    for method in (Slerp(), NuSlerp(), MultiSlerp(), Karcher()):
        torch.testing.assert_close(merged(method, near), average, rtol=0, atol=1e-10)


def test_passthrough_takes_one_model():
    models, base = drawn(3, 4)
    assert torch.equal(merged(Passthrough(model="b"), models, base), models["b"]["w"])
    assert torch.equal(merged(Passthrough(scale=0.5), {"a": models["a"]}), 0.5 * models["a"]["w"])
    with pytest.raises(ValueError, match=r"takes one of 3 models"):
        merged(Passthrough(), models)
    with pytest.raises(ValueError, match=r"no model is called 'd'"):
        merged(Passthrough(model="d"), models)


def test_nuslerp_says_what_it_takes():
    with pytest.raises(ValueError, match=r"vectors is 'row'"):
        NuSlerp(vectors="row")  # pyright: ignore[reportArgumentType]
