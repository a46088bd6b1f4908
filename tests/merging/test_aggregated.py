"""Aggregation rules on task vectors: their weights are those of the rule on the Gramian of the bundle."""

import pytest
import torch
from safetensors.torch import save_file

import equipoise
from equipoise import aggregation
from equipoise.core.card import cards
from equipoise.merging import Aggregated, TaskArithmetic, merge
from equipoise.merging.aggregated import rule_named


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of 32 elements, so that small tensors have many."""
    monkeypatch.setattr("equipoise.merging.block.CHUNK", 32)


def models(m=3, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    shapes = {"embed": (37, 8), "h.0.w": (23, 9), "h.0.b": (9,), "h.1.w": (5, 7), "scale": ()}

    def one():
        return {n: torch.randn(s, generator=draw, dtype=torch.float64).to(dtype) for n, s in shapes.items()}

    return {name: one() for name in "abcdefgh"[:m]}, one()


def deltas(given, base, names=None):
    """(m, d)"""
    names = list(base) if names is None else names
    rows = [[(model[name] - base[name]).reshape(-1) for name in names] for model in given.values()]
    return torch.stack([torch.cat(row) for row in rows])


@pytest.mark.parametrize("rule", ["UPGrad", "MGDA", "CAGrad", "ConFIG", "NashMTL", "GeometricMedian"])
def test_global_weights_are_the_rules_on_the_bundle(rule, tmp_path):
    given, base = models(dtype=torch.float32)
    for name, tensors in {**given, "base": base}.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
    paths = {name: tmp_path / f"{name}.safetensors" for name in given}
    bundle = equipoise.task_vectors(paths, base=tmp_path / "base.safetensors")
    weights = getattr(aggregation, rule)()(bundle.gramian())
    found = merge(paths, tmp_path / "base.safetensors", method=Aggregated(rule, scale=0.7))
    right = merge(given, base, method=TaskArithmetic(weight=weights.tolist(), scale=0.7))
    for name in base:
        torch.testing.assert_close(found[name], right[name])


def test_upgrad_conflicts_with_no_task_vector():
    given, base = models(m=4, dtype=torch.float64)
    given["b"] = {name: base[name] - 0.7 * (given["a"][name] - base[name]) for name in base}
    given["c"] = {name: given["c"][name] - 0.9 * (given["a"][name] - base[name]) for name in base}
    rows = deltas(given, base)
    assert float((rows @ rows.mean(0)).min()) < 0  # the average conflicts
    merged = merge(given, base, method=Aggregated("UPGrad"))
    products = rows @ deltas({"merged": merged}, base)[0]
    assert float(products.min()) >= -1e-9 * float(rows.norm() ** 2)


@pytest.mark.parametrize(
    ("scope", "together"),
    [
        ("tensor", [["embed"], ["h.0.w"], ["h.0.b"], ["h.1.w"], ["scale"]]),
        ("layer", [["embed"], ["h.0.w", "h.0.b"], ["h.1.w"], ["scale"]]),
        ("global", [["embed", "h.0.w", "h.0.b", "h.1.w", "scale"]]),
    ],
)
def test_each_scope_has_weights_of_its_own(scope, together):
    given, base = models()
    found = merge(given, base, method=Aggregated("MGDA", scope=scope))
    for names in together:
        rows = deltas(given, base, names)
        weights = aggregation.MGDA()(rows @ rows.T)
        torch.testing.assert_close(deltas({"m": found}, base, names)[0], weights @ rows)


@pytest.mark.parametrize("rule", ["TrimmedMean", "CoordinateMedian", "SignElection", "MedianOfMeans"])
def test_row_rules_see_whole_tensors(rule):
    given, base = models(m=5)
    found = merge(given, base, method=Aggregated(rule, scale=2.0))
    for name in base:
        direction = getattr(aggregation, rule)()(deltas(given, base, [name]))
        torch.testing.assert_close(deltas({"m": found}, base, [name])[0], 2 * direction)


def test_a_wrong_model_does_not_move_the_median():
    given, base = models(m=5)
    given["c"] = {name: tensor * 1e6 for name, tensor in given["c"].items()}
    found = merge(given, base, method=Aggregated("CoordinateMedian"))
    others = torch.stack([model["h.1.w"] for name, model in given.items() if name != "c"])
    assert bool((found["h.1.w"] <= others.max(0).values).all())
    assert bool((found["h.1.w"] >= others.min(0).values).all())


def test_weights_scale_the_task_vectors_before_the_rule_sees_them():
    given, base = models()
    factors = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    found = merge(given, base, method=Aggregated("MGDA", weight=factors.tolist()))
    rows = factors[:, None] * deltas(given, base)
    torch.testing.assert_close(deltas({"m": found}, base)[0], aggregation.MGDA()(rows @ rows.T) @ rows)


def test_a_preference_goes_to_the_rule():
    given, base = models()
    found = merge(given, base, method=Aggregated("UPGrad", preference={"a": 4, "c": 1, "b": 1}))
    rows = deltas(given, base)
    preference = torch.tensor([4.0, 1.0, 1.0], dtype=torch.float64) / 6
    weights = aggregation.UPGrad()(rows @ rows.T, preference=preference)
    torch.testing.assert_close(deltas({"m": found}, base)[0], weights @ rows)


def test_options_build_the_rule_and_a_rule_is_taken_as_it_is():
    given, base = models()
    by_name = merge(given, base, method=Aggregated("cagrad", options={"c": 0.9}))
    as_is = merge(given, base, method=Aggregated(aggregation.CAGrad(c=0.9)))
    assert all(torch.equal(by_name[name], as_is[name]) for name in base)
    assert not torch.equal(merge(given, base, method=Aggregated("CAGrad"))["h.1.w"], as_is["h.1.w"])


def test_the_state_of_a_rule_is_not_advanced():
    given, base = models()
    rule = aggregation.PCGrad()
    before = {key: value.clone() for key, value in rule.state_dict().items()}
    one, two = (merge(given, base, method=Aggregated(rule)) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in base)
    assert all(torch.equal(value, before[key]) for key, value in rule.state_dict().items())


RULES = [card.name for card in cards("aggregation").values() if card.shape in ("gramian", "row")]


@pytest.mark.parametrize("name", [name for name in RULES if not rule_named(name, {}).stages()])
@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_every_rule_that_does_not_follow_training_merges(name, scope):
    given, base = models()
    for some in (given, {"a": given["a"]}, {"a": given["a"], "still": base}):
        found = merge(some, base, method=Aggregated(name, scope=scope))
        assert all(bool(tensor.isfinite().all()) for tensor in found.values())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"rule": "UPGrat"}, ValueError, r"no aggregation rule is called 'UPGrat'; nearest: UPGrad"),
        (
            {"rule": "CAGrad", "options": {"d": 1}},
            ValueError,
            r"CAGrad: no option is called 'd'; known: c",
        ),
        (
            {"rule": aggregation.MGDA(), "options": {"c": 1}},
            ValueError,
            r"options go with the name",
        ),
        ({"rule": "MoCo"}, ValueError, r"MoCo follows its directions through training"),
        ({"rule": "MGDA", "preference": 1.0}, ValueError, r"MGDA takes no preference"),
        (
            {"rule": torch.nn.ReLU()},
            TypeError,
            r"or its name, not ReLU",
        ),
        ({"scope": "block"}, ValueError, r"scope is 'block'; take one of"),
    ],
)
def test_what_cannot_be_is_told_at_once(options, error, words):
    with pytest.raises(error, match=words):
        Aggregated(**options)


def test_a_preference_of_zeros_is_refused():
    given, base = models()
    with pytest.raises(ValueError, match=r"preference is .* >= 0 and not all zero"):
        merge(given, base, method=Aggregated("UPGrad", preference=0.0))


@pytest.mark.parametrize("scope", ["layer", "tensor"])
def test_what_only_models_of_no_preference_hold_stays_the_base(scope):
    given, base = models(2)
    first, second = given
    base = {**base, "extra": torch.ones(3)}
    both = {"a": {**given[first], "extra": torch.zeros(3)}, "b": given[second]}
    rule = Aggregated("UPGrad", scope=scope, preference={"a": 0.0, "b": 1.0})
    found = merge(both, base, method=rule, on_missing="skip")
    assert torch.equal(found["extra"], base["extra"])
    assert not torch.equal(found["scale"], base["scale"])


def test_a_negative_preference_is_refused_before_anything_is_read():
    given, _ = models(2)
    rule = Aggregated("UPGrad", preference=[-1.0, 2.0])
    with pytest.raises(ValueError, match=r"preference is \[-1.0, 2.0\]; it is >= 0"):
        rule.bound(list(given))
