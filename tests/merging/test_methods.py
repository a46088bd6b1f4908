"""Every merging method against what all of them promise, whatever it is."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from equipoise.core.card import cards
from equipoise.merging import merge
from equipoise.merging.methods import method_named

CARDS = {name: card for name, card in cards("merging").items() if card.shape == "merge"}
NEEDED = {"Passthrough": {"model": "a"}}
"""Options without which a method cannot merge several models."""
VARIANTS = {
    "NuSlerp by rows": ("NuSlerp", {"vectors": "rows"}),
    "NuSlerp by columns": ("NuSlerp", {"vectors": "columns"}),
    "ModelStock by filter": ("ModelStock", {"filter_wise": True}),
    "Aggregated by tensor": ("Aggregated", {"rule": "MGDA", "scope": "tensor"}),
    "Aggregated by layer": ("Aggregated", {"rule": "CAGrad", "scope": "layer"}),
    "Aggregated by rows": ("Aggregated", {"rule": "TrimmedMean"}),
    "LiNeS upon spectra": ("LiNeS", {"inner": "TSVM"}),
    "GroupWise of both shapes": ("GroupWise", {"inner": "IsoC", "outer": "ModelStock"}),
}
"""Options that take another way through a method."""
CASES = {**{name: (name, NEEDED.get(name, {})) for name in CARDS}, **VARIANTS}
LIMITS = {"Slerp": 2, "NuSlerp": 2, "NearSwap": 1, "ArceeFusion": 1}
"""Methods for so many models at most."""
UNITS = ("ArceeFusion", "DOGE", "NearSwap")
"""Methods with a length, a step, or a softmax, in the units of the weights."""

every = pytest.mark.parametrize("name", CASES)
several = pytest.mark.parametrize("name", [name for name in CASES if LIMITS.get(CASES[name][0], 3) > 1])
averaging = pytest.mark.parametrize(
    "name", [name for name, (method, _) in CASES.items() if CARDS[method].single == "the model itself"]
)

SHAPES = {
    "embed.w": (11, 6),
    "h.0.w": (6, 5),
    "h.0.b": (6,),
    "h.1.w": (7, 6),
    "h.1.kernel": (4, 3, 2, 2),
    "empty": (0, 3),
    "scale": (),
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of 32 elements, so that small tensors have many."""
    monkeypatch.setattr("equipoise.merging.block.CHUNK", 32)


def drawn(seed, around=None, size=1.0):
    draw = torch.Generator().manual_seed(seed)
    found = {name: size * torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}
    found = found if around is None else {name: around[name] + found[name] for name in found}
    return {**found, "count": torch.tensor([3, 4])}


def models(name, base):
    """Models around the base, as many as the method takes."""
    names = "abc"[: LIMITS.get(CASES[name][0], 3)]
    return {model: drawn(i, base, 0.3) for i, model in enumerate(names, 1)}


def statistics(given):
    """For each kind, what random inputs and gradients give for each model."""
    draw = torch.Generator().manual_seed(99)
    grams, fisher = {}, {}
    for model, tensors in given.items():
        grams[model], fisher[model] = {}, {}
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                continue
            fisher[model][name] = torch.randn(20, *tensor.shape, generator=draw).square().mean(0)
            if tensor.dim() == 2 and tensor.numel():
                inputs = torch.randn(20, tensor.shape[1], generator=draw)
                grams[model][name] = inputs.T @ inputs
    return {"gram": grams, "fisher": fisher}


def rule(name):
    method, options = CASES[name]
    return method_named(method, **options)


def merged(name, given, base, **options):
    method = rule(name)
    known = statistics(given)[method.statistic] if method.statistic else None
    return merge(given, base, method=method, statistics=known, **options)


def check(found, base):
    """What is expected of any merged model."""
    assert {name: tensor.shape for name, tensor in found.items()} == {n: t.shape for n, t in base.items()}
    assert {name: tensor.dtype for name, tensor in found.items()} == {n: t.dtype for n, t in base.items()}
    assert all(bool(tensor.isfinite().all()) for tensor in found.values())
    assert torch.equal(found["count"], base["count"])


def close(found, right):
    for name, tensor in right.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-4, atol=1e-5, msg=lambda words, name=name: f"{name}: {words}"
        )


def equal(found, right):
    assert [name for name in right if not torch.equal(found[name], right[name])] == []


@every
def test_it_merges_tensors_of_every_shape(name):
    base = drawn(0)
    check(merged(name, models(name, base), base), base)


@every
def test_its_card_says_whether_it_needs_a_base(name):
    base = drawn(0)
    given = models(name, base)
    if rule(name).needs_base:
        with pytest.raises(ValueError, match="base"):
            merged(name, given, None)
    else:
        check(merged(name, given, None), base)


@every
def test_one_model_alone(name):
    base = drawn(0)
    check(merged(name, {"a": drawn(1, base, 0.3)}, base), base)


@averaging
def test_one_model_alone_is_itself(name):
    base = drawn(0)
    model = drawn(1, base, 0.3)
    close(merged(name, {"a": model}, base), model)


@averaging
def test_models_that_are_the_same_are_what_they_are(name):
    base = drawn(0)
    model = drawn(1, base, 0.3)
    close(merged(name, dict.fromkeys(models(name, base), model), base), model)


@every
def test_any_number_of_threads_and_any_run_give_the_same_bits(name):
    base = drawn(0)
    given = models(name, base)
    first = merged(name, given, base, threads=1)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    equal(merged(name, given, base, threads=3), first)
    equal(merged(name, given, base, threads=1), first)
    assert torch.equal(torch.get_rng_state(), state)  # nothing is drawn from the global generator


@every
def test_files_give_what_memory_gives(name, tmp_path):
    base = drawn(0)
    given = models(name, base)
    for model, tensors in {**given, "base": base}.items():
        save_file(tensors, tmp_path / f"{model}.safetensors")
    method = rule(name)
    merge(
        {model: tmp_path / f"{model}.safetensors" for model in given},
        tmp_path / "base.safetensors",
        method=method,
        statistics=statistics(given)[method.statistic] if method.statistic else None,
        out=tmp_path / "out",
        threads=2,
    )
    equal(load_file(tmp_path / "out" / "model.safetensors"), merged(name, given, base))


@several
@pytest.mark.parametrize("lost", [["h.0.w", "scale"], ["h.0.b", "h.1.kernel"]])
def test_a_model_may_lack_tensors(name, lost):
    base = drawn(0)
    given = models(name, base)
    given["b"] = {tensor: values for tensor, values in given["b"].items() if tensor not in lost}
    check(merged(name, given, base, on_missing="skip"), base)


@every
def test_models_equal_to_the_base_give_the_base(name):
    base = drawn(0)
    close(merged(name, dict.fromkeys(models(name, base), base), base), base)


@several
def test_one_model_equal_to_the_base_is_no_trouble(name):
    base = drawn(0)
    check(merged(name, {**models(name, base), "b": base}, base), base)


@several
def test_exact_opposites_are_no_trouble(name):
    base = {name: torch.zeros_like(tensor) for name, tensor in drawn(0).items()}
    given = models(name, base)
    given["b"] = {tensor: -values for tensor, values in given["a"].items()}
    found = merged(name, given, base)
    check(found, base)
    longest = max(float(values.norm()) for model in given.values() for values in list(model.values())[:-1])
    assert all(float(found[tensor].float().norm()) <= 4 * longest for tensor in SHAPES)


@every
def test_what_is_stored_in_bfloat16_is_merged_in_float32(name):
    base = {tensor: values.bfloat16() for tensor, values in drawn(0).items()}
    base["count"] = torch.tensor([3, 4])
    given = models(name, base)
    given = {m: {t: v.to(base[t].dtype) for t, v in model.items()} for m, model in given.items()}
    wide = {m: {t: v.float() if v.is_floating_point() else v for t, v in x.items()} for m, x in given.items()}
    wide_base = {t: v.float() if v.is_floating_point() else v for t, v in base.items()}
    right = merged(name, wide, wide_base)
    equal(merged(name, given, base), {t: v.to(base[t].dtype) for t, v in right.items()})


@pytest.mark.parametrize("name", [name for name in CASES if name not in UNITS])
@pytest.mark.parametrize("power", [-20, 20])
def test_small_and_large_weights_are_merged_alike(name, power):
    """All models times a power of two give the merged model times it."""
    base = drawn(0)
    given = models(name, base)

    def times(model):
        return {t: v * 2.0**power if v.is_floating_point() else v for t, v in model.items()}

    found = merged(name, {model: times(tensors) for model, tensors in given.items()}, times(base))
    back = {t: v / 2.0**power if v.is_floating_point() else v for t, v in found.items()}
    close(back, merged(name, given, base))


@every
def test_it_computes_in_float64_where_that_is_stored(name):
    base = drawn(0)
    given = models(name, base)

    def wide(model):
        return {t: v.double() if v.is_floating_point() else v for t, v in model.items()}

    found = merged(name, {model: wide(tensors) for model, tensors in given.items()}, wide(base))
    assert all(found[tensor].dtype == torch.float64 for tensor in SHAPES)
    close({t: v.float() if v.is_floating_point() else v for t, v in found.items()}, merged(name, given, base))
