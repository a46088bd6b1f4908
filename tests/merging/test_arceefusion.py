"""ArceeFusion: which elements of the other model stand, against the importances written out."""

import pytest
import torch
from safetensors.torch import save_file
from scipy.special import kl_div

from equipoise.merging import ArceeFusion, merge
from equipoise.merging.block import CHUNK
from equipoise.merging.specified import Specified
from equipoise.merging.specify import specify


def drawn(*shape, around=None, size=1.0, seed=0, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    found = size * torch.randn(*shape, generator=draw, dtype=dtype)
    return found if around is None else around + found


def fused(model, base, **options):
    return merge([{"w": model}], {"w": base}, method=ArceeFusion(**options))["w"]


def written_out(model, base, fence=1.5):
    """The elements that stand, by a full sort in float64."""
    model, base = model.double(), base.double()
    p, q = model.softmax(-1) + 1e-8, base.softmax(-1) + 1e-8
    scores = (model - base).abs() * torch.from_numpy(kl_div(p.numpy(), q.numpy())).sum(-1, keepdim=True)
    ordered, last = scores.flatten().sort().values, scores.numel() - 1
    low, median, high = (ordered[int(share * last)] for share in (0.25, 0.5, 0.75))
    return scores >= median + fence * (high - low)


@pytest.mark.parametrize("shape", [(2,), (5,), (4, 7), (6, 3, 3), (3, CHUNK + 5), (700, 501)])
@pytest.mark.parametrize("fence", [0.0, 1.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outlying_elements_are_the_models_and_all_others_the_bases(shape, fence, dtype):
    base = drawn(*shape, dtype=dtype)
    model = drawn(*shape, around=base, size=0.1, seed=1, dtype=dtype)
    found = fused(model, base, fence=fence)
    taken = written_out(model, base, fence)
    assert 0 < int(taken.sum()) < taken.numel() or taken.numel() <= 5
    assert torch.equal(found, torch.where(taken, model, base))


@pytest.mark.parametrize("size", [1e-3, 1e-5])
def test_float32_decides_as_float64_does_where_models_hardly_differ(size):
    """Divergences of 1e-6 and 1e-10, where the sum of p log(p / q) is lost in float32."""
    base = drawn(300, 200)
    model = drawn(300, 200, around=base, size=size, seed=1)
    assert torch.equal(fused(model, base), fused(model.double(), base.double()).float())


def test_a_row_that_changed_as_a_whole_goes_first_unless_it_was_shifted():
    """What is added to all elements of a row alike counts for nothing: softmax does not see it."""
    base = drawn(40, 50)
    model = drawn(40, 50, around=base, size=0.01, seed=1)
    model[7] = drawn(50, around=base[7], seed=2)
    model[9] = base[9] + 3.0
    changed = fused(model, base) != base
    assert int(changed[7].sum()) >= 49
    assert int(changed[9].sum()) == 0


def test_one_column_is_the_models():
    """A softmax of one number is 1, so that no element is less important than another."""
    base, model = torch.zeros(6, 1), drawn(6, 1)
    assert torch.equal(fused(model, base), model)


def test_a_larger_fence_takes_fewer_elements():
    base = drawn(60, 30)
    model = drawn(60, 30, around=base, size=0.1, seed=1)
    counts = [int((fused(model, base, fence=fence) != base).sum()) for fence in (0.0, 0.5, 1.5, 4.0)]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 4
    assert counts[0] == 901  # the median, place 899 of 1800, and what lies above


def test_two_models_and_fences_that_are_none_are_refused():
    base = {"w": torch.zeros(3)}
    with pytest.raises(ValueError, match="one model beside the base, but 2 are given: a, b"):
        merge({"a": base, "b": base}, base, method=ArceeFusion())
    for fence in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"fence is {fence}"):
            ArceeFusion(fence=fence)


def test_the_base_of_mergekits_files_may_stand_among_the_models(tmp_path):
    base = drawn(8, 5)
    model = drawn(8, 5, around=base, size=0.1, seed=1)
    save_file({"w": base}, tmp_path / "base.safetensors")
    save_file({"w": model}, tmp_path / "a.safetensors")
    paths = [str(tmp_path / f"{name}.safetensors") for name in ("base", "a")]
    given = {"merge_method": "arcee_fusion", "base_model": paths[0], "models": [{"model": p} for p in paths]}
    assert torch.equal(Specified(specify(given)).run()["w"], fused(model, base))
    with pytest.raises(ValueError, match="no parameter is called 'fence'"):
        specify({**given, "parameters": {"fence": 1.0}})
