"""TIES equals the authors' code and mergekit's, and does what the paper says of each step."""

import json

import pytest
import torch

from equipoise.merging import TIES, TaskArithmetic, merge
from equipoise.merging.block import CHUNK
from equipoise.merging.methods import method_named
from equipoise.merging.signs import agreed, elected

EXACT = {"rtol": 0, "atol": 1e-15}


def vectors(folder):
    found = json.loads((folder / "merging.json").read_text())
    base, *models = (
        {"w": torch.tensor(x, dtype=torch.float64)}
        for x in [found["inputs"]["base"], *found["inputs"]["finetuned"]]
    )
    results = {
        key: (one["params"], torch.tensor(one["output"], dtype=torch.float64))
        for key, one in found["results"].items()
    }
    return dict(zip("abc", models, strict=True)), base, results


def drawn(*shapes, m=3, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)

    def one():
        return {f"w{i}": torch.randn(s, generator=draw, dtype=dtype) for i, s in enumerate(shapes)}

    return {name: one() for name in "abcdefgh"[:m]}, one()


def test_all_nine_outputs_of_the_authors_code(vectors_folder):
    models, base, results = vectors(vectors_folder)
    found = {key: one for key, one in results.items() if "official TIES" in key}
    assert len(found) == 9
    for params, right in found.values():
        method = TIES(density=params["K"] / 100, reduce=params["merge_func"].removeprefix("dis-"))
        out = merge(models, base, method=method)["w"] - base["w"]
        torch.testing.assert_close(out.flatten(), right, **EXACT)


@pytest.mark.parametrize("key", ["ties density=.5 w=1 lambda=1", "ties density=.2 w=.3,.6,.9"])
def test_outputs_of_mergekit(vectors_folder, key):
    models, base, results = vectors(vectors_folder)
    params, right = results[f"mergekit==0.1.5 merge_tensors {key}"]
    method = TIES(preset="mergekit", density=params["density"], weight=params["weight"])
    torch.testing.assert_close(merge(models, base, method=method)["w"], right, **EXACT)


def test_presets_are_three_methods():
    models, base = drawn((40,), (40,))
    for model in models.values():
        model["w1"] = base["w1"] + 10 * (model["w1"] - base["w1"])
    one = {
        p: merge(models, base, method=method_named("ties", preset=p, density=0.2))
        for p in ("paper", "mergekit", "fusion_bench")
    }
    moved = {p: int((out["w0"] != base["w0"]).sum()) for p, out in one.items()}
    assert moved["paper"] == 0 < moved["mergekit"]  # a global threshold leaves nothing to the quiet tensor
    by_hand = merge(models, base, method=TIES(density=0.2, reduce="sum", scale=0.3))
    assert torch.equal(one["fusion_bench"]["w1"], by_hand["w1"])


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_with_everything_kept_and_one_sign_it_is_the_mean_of_task_vectors(scope):
    models, base = drawn((6, 5), (3,), ())
    for model in models.values():
        for name in model:
            model[name] = base[name] + model[name].abs()
    out = merge(models, base, method=TIES(density=1.0, scope=scope))
    right = merge(models, base, method=TaskArithmetic(scale=1 / 3))
    for name in base:
        torch.testing.assert_close(out[name], right[name], **EXACT)


def test_equal_magnitudes_are_all_kept_or_exactly_counted():
    base = {"w": torch.zeros(6)}
    model = {"w": torch.tensor([1.0, -1.0, 1.0, 1.0, 2.0, 0.5])}
    assert merge([model], base, method=TIES(density=0.4))["w"].tolist() == [1, -1, 1, 1, 2, 0]
    exact = TIES(preset="mergekit", density=0.5)
    assert merge([model], base, method=exact)["w"].tolist() == [1, -1, 0, 0, 2, 0]


def test_where_votes_cancel_the_majority_decides():
    base = {"w": torch.zeros(4)}
    models = [{"w": torch.tensor([2.0, -1.0, -1.0, -3.0])}, {"w": torch.tensor([-2.0, -1.0, 3.0, -3.0])}]
    keep = {"density": 1.0}
    assert merge(models, base, method=TIES(**keep))["w"].tolist() == [-2, -1, 3, -3]
    assert merge(models, base, method=TIES(**keep, undecided="positive"))["w"].tolist() == [2, -1, 3, -3]


def test_opposites_duplicates_and_the_base_itself_stay_finite():
    models, base = drawn((7, 3), m=1)
    model = models["a"]
    opposite = {"w0": 2 * base["w0"] - model["w0"]}
    for group in ([model, opposite], [model, model], [base, base], [base, model]):
        for preset in ("paper", "mergekit", "fusion_bench"):
            assert merge(group, base, method=TIES(preset=preset))["w0"].isfinite().all()
    twice = merge([model, model], base, method=TIES())["w0"]
    torch.testing.assert_close(twice, merge([model], base, method=TIES())["w0"], **EXACT)
    assert torch.equal(merge([base, base], base, method=TIES())["w0"], base["w0"])


def test_one_model_alone_is_its_largest_changes():
    models, base = drawn((50,), m=1)
    out = merge(models, base, method=TIES(density=0.2, scale=0.5, scope="tensor", count="exact"))["w0"]
    delta = models["a"]["w0"] - base["w0"]
    largest = delta.abs().topk(10).indices
    right = torch.zeros_like(delta).index_copy_(0, largest, 0.5 * delta[largest])
    torch.testing.assert_close(out - base["w0"], right, rtol=0, atol=1e-15)


def test_a_negative_weight_takes_a_task_away():
    base, model = {"w": torch.zeros(2)}, {"w": torch.tensor([1.0, -2.0])}
    out = merge([model], base, method=TIES(density=1.0, weight=-0.5))["w"]
    assert out.tolist() == [-1.0, 2.0]


def test_threads_change_no_bit():
    models, base = drawn((CHUNK // 8 + 3, 17), (33, 5), (), dtype=torch.float32)
    for preset in ("paper", "mergekit"):
        one, many = (
            merge(models, base, method=TIES(preset=preset, density=0.3), threads=threads)
            for threads in (1, 4)
        )
        assert all(torch.equal(one[name], many[name]) for name in base)


def test_wrong_options_are_told():
    with pytest.raises(ValueError, match="nearest: mergekit"):
        TIES(preset="mergkit")
    with pytest.raises(ValueError, match="reduce is 'median'"):
        method_named("ties", reduce="median")
    with pytest.raises(ValueError, match=r"density of b is 20\.0"):
        TIES(density={"a": 0.2, "b": 20})
    with pytest.raises(ValueError, match="global threshold keeps all equals"):
        TIES(count="exact")


def test_signs_are_elected_by_magnitude_not_by_number():
    votes = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-3.0, 0.0]])
    assert elected(votes).tolist() == [-1, 1]
    assert elected(votes, -1.0).tolist() == [-1, -1]
    weights = torch.ones(3, dtype=torch.float64)
    assert agreed(votes.clone(), weights).tolist() == [-3, 1]
    assert agreed(votes.clone(), weights, reduce="max", undecided=-1.0).tolist() == [-3, -1]
