"""DARE, DELLA, Breadcrumbs, SCE and NearSwap: equal to mergekit's on its draws, and to their formulas."""

import json
import math
from dataclasses import dataclass

import pytest
import torch

from equipoise.merging import DARE, DELLA, SCE, TIES, Breadcrumbs, NearSwap, TaskArithmetic, merge
from equipoise.merging.block import CHUNK
from equipoise.merging.della import rank

EXACT = {"rtol": 0, "atol": 1e-15}
SINGLE = {"rtol": 0, "atol": 2e-7}  # mergekit draws and rescales in float32


@dataclass(frozen=True)
class OneDrawDARE(DARE):
    """DARE with the draws of torch's global generator, one model after the other."""

    def mask(self, part):
        torch.manual_seed(self.seed)
        shape = part.deltas.shape[1:]
        return torch.stack([torch.bernoulli(torch.full(shape, self.density)) for _ in part.names]).double()


@dataclass(frozen=True)
class OneDrawDELLA(DELLA):
    """DELLA with the draws of torch's global generator, one model after the other."""

    def mask(self, part, shares):
        torch.manual_seed(self.seed)
        return torch.stack([torch.bernoulli(row.float()) for row in shares]).double()


MERGEKIT = [
    ("dare_linear density=.5 w=.4 torch.manual_seed(0)", OneDrawDARE(weight=0.4, rescale="l1"), SINGLE),
    ("della density=.5 eps=.15 w=.4 torch.manual_seed(0)", OneDrawDELLA(weight=0.4, rescale="l1"), SINGLE),
    ("breadcrumbs density=.6 gamma=.1 w=.5", Breadcrumbs(weight=0.5, density=0.6, gamma=0.1), EXACT),
    (
        "breadcrumbs_ties density=.6 gamma=.1 w=.5",
        Breadcrumbs(weight=0.5, density=0.6, gamma=0.1, votes=True),
        EXACT,
    ),
    ("sce select_topk=.5", SCE(select_topk=0.5), EXACT),
]


def drawn(*shapes, m=3, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)

    def one():
        return {f"w{i}": torch.randn(s, generator=draw, dtype=dtype) for i, s in enumerate(shapes)}

    return {name: one() for name in "abcdefgh"[:m]}, one()


def vectors(folder):
    found = json.loads((folder / "merging.json").read_text())
    base, *models = (
        {"w": torch.tensor(x, dtype=torch.float64)}
        for x in [found["inputs"]["base"], *found["inputs"]["finetuned"]]
    )
    start = "mergekit==0.1.5 merge_tensors "
    results = {
        key.removeprefix(start): torch.tensor(one["output"], dtype=torch.float64)
        for key, one in found["results"].items()
    }
    return dict(zip("abc", models, strict=True)), base, results


@pytest.mark.parametrize(("key", "method", "tolerance"), MERGEKIT, ids=[key for key, *_ in MERGEKIT])
def test_outputs_of_mergekit(vectors_folder, key, method, tolerance):
    models, base, results = vectors(vectors_folder)
    torch.testing.assert_close(merge(models, base, method=method)["w"], results[key], **tolerance)


def test_nearswap_of_mergekit(vectors_folder):
    models, base, results = vectors(vectors_folder)
    out = merge([models["a"]], base, method=NearSwap(t=0.1))["w"]
    torch.testing.assert_close(out, results["nearswap t=.1"], **EXACT)


@pytest.mark.parametrize("shapes", [((6, 5), (3,), ())])
@pytest.mark.parametrize("kind", [DARE, DELLA, Breadcrumbs])
def test_with_all_kept_it_is_task_arithmetic(kind, shapes):
    models, base = drawn(*shapes)
    out = merge(models, base, method=kind(density=1.0, votes=False, normalize=False, weight=0.4))
    right = merge(models, base, method=TaskArithmetic(weight=0.4))
    for name in base:
        torch.testing.assert_close(out[name], right[name], **EXACT)


@pytest.mark.parametrize("method", [DARE(density=0.3), DELLA(density=0.3, votes=False, normalize=False)])
def test_a_change_stays_as_it_was_on_average(method):
    """Yu et al. 2024: E[b delta / p] = delta; so it is for DELLA's probabilities of ranks."""
    size = 4 * CHUNK + 5
    base, model = {"w": torch.zeros(size // 37, 37)}, {"w": torch.linspace(0.5, 1.5, size)[: size // 37 * 37]}
    model["w"] = model["w"].view(-1, 37)
    out = merge([model], base, method=method)["w"]
    assert abs(float((out != 0).float().mean()) - 0.3) < 4 * math.sqrt(0.3 * 0.7 / size)
    ratio = out.double() / model["w"].double()
    assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / math.sqrt(size)


def test_the_l1_norm_of_each_tensor_is_kept():
    models, base = drawn((CHUNK // 4, 9), (11,), m=1)
    for method in (DARE(density=0.4, rescale="l1"), DELLA(density=0.4, rescale="l1", votes=False)):
        out = merge(models, base, method=method)
        for name in base:
            before, after = (float((x[name] - base[name]).abs().sum()) for x in (models["a"], out))
            assert after == pytest.approx(before, rel=1e-12)


def test_draws_depend_on_seed_tensor_and_model_alone():
    models, base = drawn((CHUNK // 8 + 3, 17), (CHUNK // 8 + 3, 17), dtype=torch.float32)

    def mask(given, seed=0, threads=1, name="w0"):
        out = merge(given, base, method=DARE(density=0.5, seed=seed), threads=threads)
        return (out[name] - base[name]).ne(0)

    alone = {"b": models["b"]}
    assert torch.equal(mask(alone), mask(alone, threads=3))
    assert torch.equal(mask({"b": models["a"]}), mask(alone))
    state = torch.get_rng_state()
    others = [mask(alone, seed=1), mask({"c": models["b"]}), mask(alone, name="w1")]
    assert torch.equal(torch.get_rng_state(), state)
    for other in others:
        assert abs(float((other == mask(alone)).float().mean()) - 0.5) < 0.01


@pytest.mark.parametrize("kind", [DARE, DELLA])
def test_rows_that_few_models_have_get_draws_of_their_own(kind):
    base = {"embed.weight": torch.zeros(120, 50)}
    models = {"few": {"embed.weight": torch.ones(40, 50)}, "more": {"embed.weight": torch.ones(80, 50)}}
    method = kind(weight={"few": 0.0, "more": 1.0}, density=0.5)
    kept = merge(models, base, method=method, vocab="union")["embed.weight"].ne(0).float()
    same = float((kept[:40] == kept[40:80]).float().mean())
    assert abs(same - 0.5) < 0.05  # of 2,000 elements; 1 if the masks were one


def test_large_changes_of_a_row_are_kept_more_often():
    """Deep et al. 2024: from p - epsilon for the smallest to p + epsilon for the largest of a row."""
    base = {"w": torch.zeros(20_000, 5)}
    model = {"w": torch.tensor([3.0, -1.0, 5.0, 2.0, -4.0]).repeat(20_000, 1)}
    out = merge([model], base, method=DELLA(density=0.5, epsilon=0.2))["w"]
    share = out.ne(0).double().mean(0)
    right = torch.tensor([0.5, 0.3, 0.7, 0.4, 0.6], dtype=torch.float64)
    torch.testing.assert_close(share, right, rtol=0, atol=4 * 0.5 / math.sqrt(20_000))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranks_are_those_of_a_stable_sort(dtype):
    rows = (torch.rand(40, 33, dtype=dtype) * 10).round()
    assert torch.equal(rank(rows), rows.argsort(dim=1, stable=True).argsort(dim=1))


def test_breadcrumbs_drop_outliers_and_small_changes_but_no_tensor():
    base = {"w": torch.zeros(10), "bias": torch.zeros(2), "scale": torch.zeros(())}
    model = {"w": torch.arange(1.0, 11.0), "bias": torch.tensor([1.0, -2.0]), "scale": torch.tensor(3.0)}
    out = merge([model], base, method=Breadcrumbs(density=0.3, gamma=0.2))
    assert out["w"].tolist() == [0, 0, 0, 0, 0, 6, 7, 8, 0, 0]
    assert out["bias"].tolist() == [0, -2]
    assert out["scale"] == 3
    high = merge([model], base, method=Breadcrumbs(density=0.9, gamma=0.5))["w"]
    assert high.tolist() == [*range(1, 10), 0]  # no more outliers than the density allows


def test_weights_of_sce_are_mean_squares():
    """Wan et al. 2024: eta_i is proportional to the mean square of the change; here 1 to 4."""
    base = {"w": torch.zeros(1, dtype=torch.float64)}
    models = [{"w": base["w"] + 1}, {"w": base["w"] + 2}]
    assert float(merge(models, base, method=SCE())["w"]) == pytest.approx((1 + 4 * 2) / 5, rel=1e-15)


def test_sce_selects_where_models_differ():
    base = {"w": torch.zeros(4)}
    models = [{"w": torch.tensor([1.0, 5.0, 1.0, 0.0])}, {"w": torch.tensor([1.0, 1.0, 1.5, 0.0])}]
    out = merge(models, base, method=SCE(select_topk=0.5))["w"]
    assert out.ne(0).tolist() == [False, True, False, False]  # half of the two on which they differ
    assert torch.equal(merge(models, base, method=SCE(select_topk=0))["w"], base["w"])


@pytest.mark.parametrize(
    "method",
    [
        DARE(votes=True, normalize=True, rescale="l1"),
        DELLA(rescale="l1"),
        DELLA(),
        Breadcrumbs(votes=True),
        SCE(),
        SCE(select_topk=0.3),
    ],
)
def test_opposites_duplicates_and_the_base_itself_stay_finite(method):
    models, base = drawn((7, 3), (4,), (), m=1)
    model = models["a"]
    opposite = {name: 2 * base[name] - model[name] for name in base}
    for group in ([model, opposite], [model, model], [base, base], [base, model], [model]):
        out = merge(group, base, method=method)
        assert all(tensor.isfinite().all() for tensor in out.values())
    assert torch.equal(merge([base, base], base, method=method)["w0"], base["w0"])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("scale", [2.0**-80, 1.0, 2.0**66])
@pytest.mark.parametrize(
    "method", [DARE(rescale="l1"), DELLA(rescale="l1"), Breadcrumbs(), SCE(), SCE(select_topk=0.6), TIES()]
)
def test_task_vectors_may_be_of_any_size(method, scale, dtype, tolerance):
    models, base = drawn((31, 9), dtype=dtype)
    base = {"w0": torch.zeros_like(base["w0"])}
    one = merge(models, base, method=method)["w0"]
    scaled = {name: {"w0": model["w0"] * scale} for name, model in models.items()}
    found = merge(scaled, base, method=method)["w0"] / scale
    torch.testing.assert_close(found, one, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", [TIES(weight=[1, 1e-50], density=1.0), SCE()])
def test_a_weight_too_small_for_float32_does_not_count(method):
    models = [{"w": torch.tensor([1.0, 0.0, 2.0])}, {"w": torch.tensor([1e-25, 0.0, -1e-25])}]
    found = merge(models, {"w": torch.zeros(3)}, method=method)["w"]
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 2.0]), rtol=1e-6, atol=0)


def test_a_single_model_under_sce_is_itself():
    models, base = drawn((5, 4), m=1)
    for share in (1.0, 0.2):
        torch.testing.assert_close(
            merge(models, base, method=SCE(select_topk=share))["w0"], models["a"]["w0"], rtol=0, atol=1e-15
        )


def test_nearswap_swaps_what_is_near():
    base, model = {"w": torch.zeros(3)}, {"w": torch.tensor([0.25, -1.0, 4.0])}
    assert merge([model], base, method=NearSwap(t=1))["w"].tolist() == [0.25, -1.0, 1.0]
    assert torch.equal(merge([model], base, method=NearSwap(t=0))["w"], base["w"])


def test_wrong_options_are_told():
    models, base = drawn((4,))
    with pytest.raises(ValueError, match="towards one model, but 3 are given: a, b, c"):
        merge(models, base, method=NearSwap())
    with pytest.raises(ValueError, match="t is -1"):
        NearSwap(t=-1)
    with pytest.raises(ValueError, match=r"model b has density 0.9 and epsilon 0.15"):
        merge(models, base, method=DELLA(density=[0.5, 0.9, 0.5]))
    with pytest.raises(ValueError, match=r"DARE: density is 1.5"):
        DARE(density=1.5)
    with pytest.raises(ValueError, match="rescale is 'l2'"):
        DARE(rescale="l2")
    with pytest.raises(ValueError, match=r"gamma number 2 is -0.1"):
        Breadcrumbs(gamma=[0.1, -0.1, 0.1])
    with pytest.raises(ValueError, match="weights of a, b, c sum to 0"):
        merge(models, base, method=DARE(weight=[1, 1, -2], normalize=True))
