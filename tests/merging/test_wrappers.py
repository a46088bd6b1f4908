"""Methods around methods: scales by depth, and groups before all."""

from dataclasses import dataclass

import pytest
import torch

from equipoise.merging import (
    Aggregated,
    Average,
    GroupWise,
    LiNeS,
    MergeRule,
    ModelStock,
    NuSlerp,
    Slerp,
    TaskArithmetic,
    merge,
)

SHAPES = {
    "embed.w": (11, 6),
    "h.0.w": (23, 9),
    "h.1.w": (5, 7),
    "h.1.b": (5,),
    "h.2.w": (3, 2, 2, 2),
    "scale": (),
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of 32 elements, so that small tensors have many."""
    monkeypatch.setattr("equipoise.merging.block.CHUNK", 32)


def models(names="abcd", seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)

    def one():
        return {n: torch.randn(s, generator=draw, dtype=torch.float64).to(dtype) for n, s in SHAPES.items()}

    return {name: one() for name in names}, one()


def close(found, right):
    assert list(found) == list(right)
    for name in right:
        torch.testing.assert_close(found[name], right[name], msg=lambda words, name=name: f"{name}: {words}")


def scaled(merged, base, scales):
    return {name: base[name] + scales.get(name, scales[""]) * (merged[name] - base[name]) for name in base}


@pytest.mark.parametrize("method", [TaskArithmetic(scale=0.4), Average(), ModelStock(), ModelStock(True)])
def test_lines_scales_by_depth(method):
    """Wang et al. 2025: s_l = alpha + beta l / (L - 1) in layers 0 ... L - 1, alpha outside of them."""
    given, base = models()
    found = merge(given, base, method=LiNeS(method, alpha=0.3, beta=0.8))
    scales = {"": 0.3, "h.0.w": 0.3, "h.1.w": 0.7, "h.1.b": 0.7, "h.2.w": 1.1}
    close(found, scaled(merge(given, base, method=method), base, scales))


def test_the_alpha_of_a_sum_is_one_over_the_number_of_models():
    given, base = models()
    found = merge(given, base, method=LiNeS(TaskArithmetic(), beta=0.2))
    close(found, merge(given, base, method=LiNeS(TaskArithmetic(), alpha=0.25, beta=0.2)))


@pytest.mark.parametrize("method", [Average(), TaskArithmetic(scale=0.3), ModelStock(), Aggregated("MGDA")])
def test_alpha_weighs_the_length_of_the_sum_against_the_methods(method):
    """The authors' code: L1 norm of the summed task vectors over that of the merged one, over m."""
    given, base = models()
    merged = merge(given, base, method=method)
    sums = {name: torch.stack([model[name] - base[name] for model in given.values()]).sum(0) for name in base}
    summed = sum(float(tensor.abs().sum()) for tensor in sums.values())
    length = sum(float((merged[name] - base[name]).abs().sum()) for name in base)
    right = LiNeS(method, alpha=summed / length / 4, beta=0.6)
    close(merge(given, base, method=LiNeS(method, beta=0.6)), merge(given, base, method=right))


def test_lines_of_models_equal_to_the_base_is_the_base():
    _, base = models()
    close(merge({"a": base, "b": base}, base, method=LiNeS()), base)


def test_lines_binds_the_options_of_its_method():
    given, base = models("ab")
    by_place = merge(given, base, method=LiNeS(TaskArithmetic(weight=[1.0, 0.0]), alpha=1.0, beta=0.0))
    close(by_place, given["a"])
    with pytest.raises(ValueError, match=r"weight has 3 values for 2 models"):
        merge(given, base, method=LiNeS(TaskArithmetic(weight=[1, 2, 3])))


def test_lines_takes_a_method_by_name():
    given, base = models("ab")
    close(merge(given, base, method=LiNeS("average")), merge(given, base, method=LiNeS(Average())))


@dataclass(frozen=True)
class Overwriting(MergeRule):
    """An average that writes into all that it is given, as a rule may."""

    def merge(self, part, measured):
        mean = part.rows.mean(0)
        part.rows.zero_()
        return part.base.mul_(0).add_(mean)


def test_a_method_may_write_into_what_it_is_given():
    given, base = models("ab")
    close(
        merge(given, base, method=LiNeS(Overwriting(), beta=0.5)),
        merge(given, base, method=LiNeS(Average(), beta=0.5)),
    )
    method = GroupWise({"one": ["a"], "two": ["b"]}, outer=Overwriting())
    close(merge(given, base, method=method), merge(given, base, method=Average()))


def test_an_average_of_averages_weighs_groups_alike():
    given, base = models()
    found = merge(given, base, method=GroupWise({"west": ["a", "c", "d"], "east": ["b"]}))
    weights = {"a": 1 / 6, "b": 1 / 2, "c": 1 / 6, "d": 1 / 6}
    close(found, merge(given, base, method=Average(weight=weights)))


INNER = [Average(), TaskArithmetic(scale=0.5), NuSlerp(), NuSlerp(vectors="rows"), ModelStock(True), Slerp()]
OUTER = [Average(), NuSlerp(vectors="rows"), NuSlerp(vectors="columns"), Aggregated("UPGrad"), LiNeS()]


@pytest.mark.parametrize("outer", [*OUTER, Aggregated("TrimmedMean")])
@pytest.mark.parametrize("inner", [*INNER, Aggregated("TrimmedMean"), Aggregated("MGDA", scope="layer")])
@pytest.mark.parametrize("threads", [1, 3])
def test_group_wise_is_merging_twice(inner, outer, threads):
    """Whatever either method surveys, measures, or wants at once."""
    given, base = models()
    groups = {"one": ["a", "d"], "two": ["c", "b"]}
    found = merge(given, base, method=GroupWise(groups, inner, outer), threads=threads)
    halves = {
        group: merge({name: given[name] for name in members}, base, method=inner)
        for group, members in groups.items()
    }
    close(found, merge(halves, base, method=outer))


def test_options_go_by_the_names_of_models_within_and_of_groups_across():
    given, base = models("abc")
    method = GroupWise(
        {"one": ["a", "b"], "two": ["c"]},
        inner=Average(weight={"a": 1, "b": 3, "c": 1}),
        outer=Average(weight={"one": 0.8, "two": 0.2}),
    )
    right = Average(weight={"a": 0.2, "b": 0.6, "c": 0.2})
    close(merge(given, base, method=method), merge(given, base, method=right))


def test_without_groups_all_models_are_one():
    given, base = models()
    close(merge(given, base, method=GroupWise(inner=ModelStock())), merge(given, base, method=ModelStock()))


def test_a_wrapper_asks_for_the_base_where_its_methods_do():
    given, _ = models("ab")
    for method in (LiNeS(Average()), GroupWise(inner=ModelStock()), GroupWise(outer=TaskArithmetic())):
        with pytest.raises(ValueError, match=r"base"):
            merge(given, method=method)
    close(merge(given, method=GroupWise()), merge(given, method=Average()))


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"one": ["a", "b"]}, r"c, d stands in no group"),
        ({"one": ["a", "b", "c"], "two": ["c", "d"]}, r"c stands in two groups"),
        ({"one": ["a", "b", "c"], "two": ["e"]}, r"no model is called 'e'"),
        ({"one": ["a", "b", "c", "d"], "two": []}, r"group 'two' has no models"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, words):
    given, base = models()
    with pytest.raises(ValueError, match=words):
        merge(given, base, method=GroupWise(groups))


def test_a_method_that_gives_no_number_is_told_with_its_group():
    given, base = models("abc")
    given["a"]["h.1.b"][2] = float("nan")
    with pytest.raises(ValueError, match=r"tensor 'h.1.b' of a holds NaN"):
        merge(given, base, method=GroupWise({"one": ["a", "b"], "two": ["c"]}))
