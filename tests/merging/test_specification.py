"""A specification: checked early, resolved for every tensor, and run."""

import json
import re
from datetime import date

import pytest
import torch
from safetensors.torch import save_file
from tests.merging.layered import LAYERS, paths, saved, tensors

from equipoise.merging import TIES, Aggregated, Average, LiNeS, TaskArithmetic, merge
from equipoise.merging.resolved import Resolved
from equipoise.merging.settings import NOTHING, value_at
from equipoise.merging.slices import arranged
from equipoise.merging.source import StateDict
from equipoise.merging.specification import size_of
from equipoise.merging.specified import Specified
from equipoise.merging.specify import changed, specify


@pytest.fixture
def folder(tmp_path):
    return saved(tmp_path)


def test_a_gradient_runs_straight_between_evenly_spaced_values():
    setting = {"gradient": [0, "1e0", 5]}
    assert [value_at(setting, "w", t) for t in (0, 0.25, 0.5, 0.75, 1)] == [0, 0.5, 1, 3, 5]
    assert value_at({"gradient": ["left", "right", "left"]}, "w", 0.6) == "right"


def test_the_first_filter_that_fits_counts():
    setting = [{"filter": "mlp", "value": {"gradient": [0, 1]}}, {"filter": "attn", "value": 3}]
    assert value_at(setting, "layers.0.mlp.w", 0.5) == 0.5
    assert value_at(setting, "layers.0.attn.w", 0.5) == 3
    assert value_at(setting, "embed", 0.5) is NOTHING
    assert value_at([*setting, {"filter": "*", "value": 9}], "embed", 0.5) == 9


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"models": {"a": "x"}, "metod": "ties"}, "no key is called 'metod'; nearest: method"),
        (
            {"models": {"a": "x"}, "method": "avrage"},
            "no merging method is called 'avrage'; nearest: Average",
        ),
        (
            {"models": {"a": "x"}, "options": {"wieght": 1}},
            "Average: no option is called 'wieght'; nearest: weight",
        ),
        ({"models": {"a": "x"}, "options": {"weight": "heavy"}}, "weight is a number, not 'heavy'"),
        ({"models": {"a": "x"}, "options": {"weight": [1, "x"]}}, "Average: weight[1] is a number, not 'x'"),
        ({"models": {"a": "x"}, "options": {"weight": {"a": "x"}}}, "weight of a is a number, not 'x'"),
        ({"models": {"a": "x"}, "base": "y", "method": "isocts", "options": {"common": 3}}, "common is 3"),
        (
            {
                "models": {"a": "x"},
                "base": "y",
                "method": "ties",
                "options": {"density": {"gradient": [0, 2]}},
            },
            "TIES: density is 2",
        ),
        ({"models": {"a": date(2024, 1, 1)}}, "models.a: Input should be"),
        ({"models": {"a": "x"}, "options": {"normalize": 3}}, "normalize is true or false, not 3"),
        ({"models": {"a": "x"}, "options": {"weight": None}}, "weight is a number, not None"),
        (
            {"models": {"a": "x"}, "method": "karcher", "options": {"max_iter": 2.5}},
            "max_iter is a whole number",
        ),
        (
            {"models": {"a": "x"}, "method": "karcher", "options": {"max_iter": [2]}},
            "max_iter is a whole number",
        ),
        (
            {"models": {"a": "x"}, "base": "y", "method": "ties", "options": {"scope": "layer"}},
            "TIES: scope: no choice is called 'layer'; known: global, tensor",
        ),
        ({"models": {"a": {"pth": "x"}}}, "models.a: no key is called 'pth'; nearest: path"),
        ({"models": {"a": {"path": "x", "options": {"normalize": True}}}}, "normalize is one for all models"),
        ({"models": {"a": "x"}, "options": {"weight": [{"pattern": "mlp", "value": 1}]}}, "'pattern'"),
        (
            {"models": {"a": "x"}, "options": {"weight": {"gradient": []}}},
            "options: weight: a gradient is a list",
        ),
        ({"models": {"a": "x"}, "statistics": {"b": "y"}}, "statistics: no model is called 'b'"),
        ({"models": {"a": "x"}, "shard_size": "5 apples"}, "'5 apples' is no size"),
        ({"models": {"a": "x"}, "dtype": "float8"}, "dtype: Input should be"),
        ({"models": {"a": "x"}, "rules": [{"filter": "mlp", "options": {"scale": 1}}]}, "Average: no option"),
        ({}, "models: Field required"),
        (
            {"models": {"a": "x"}, "slices": [{"sources": [{"model": "z", "layers": [0, 2]}]}]},
            "slices: no model is called 'z'",
        ),
        (
            {
                "models": {"a": "x", "b": "y"},
                "slices": [{"sources": [{"model": "a", "layers": [0, 2]}, {"model": "b", "layers": [0, 3]}]}],
            },
            "the sources of a slice differ in depth: a 2, b 3 layers",
        ),
        (
            {"models": {"a": "x"}, "slices": [{"sources": [{"model": "base", "layers": [0, 2]}]}]},
            "a source is the base, and no base is named",
        ),
    ],
)
def test_a_wrong_key_is_refused_by_name(given, words):
    with pytest.raises(ValueError, match=rf"^merge\.yaml: .*{re.escape(words)}"):
        specify(changed(given, {}), "merge.yaml")


def test_sizes_are_read_in_words():
    assert [size_of(text) for text in ("5GB", "500 MB", "2GiB", "7", 8)] == [5e9, 5e8, 2**31, 7, 8]


def test_choices_that_meet_in_some_tensors_only_are_not_set_against_each_other():
    options = {
        "count": [{"filter": "mlp", "value": "exact"}, {"value": "all"}],
        "scope": [{"filter": "mlp", "value": "tensor"}, {"value": "global"}],
    }
    given = {"models": {"a": "a"}, "base": "base", "method": "ties", "options": options}
    assert specify(given).options == options
    rule_of = resolved(given)
    assert rule_of("layers.0.mlp.w") == TIES(count="exact", scope="tensor")
    assert rule_of("head") == TIES()


def resolved(given):
    told = specify(given)
    files = {name: StateDict(tensors(i), name) for i, name in enumerate(told.models)}
    base = None if told.base is None else StateDict(tensors(9), "base")
    found = arranged(told, files, base)
    return Resolved(told, tuple(files), found.places)


def test_options_of_a_rule_a_model_and_the_method_in_this_order():
    rule_of = resolved(
        {
            "models": {"a": {"path": "a", "options": {"weight": {"gradient": [0, 1]}}}, "b": "b"},
            "base": "base",
            "method": "task-arithmetic",
            "options": {"weight": 0.25, "scale": [{"filter": "mlp", "value": 2}, {"value": 1}]},
            "rules": [
                {"filter": "head", "method": "average", "options": {"weight": [3, 1]}},
                {"filter": "layers.4.", "options": {"weight": 7}},
            ],
        }
    )
    assert rule_of("layers.2.mlp.w") == TaskArithmetic(weight={"a": 0.5, "b": 0.25}, scale=2)
    assert rule_of("embed.weight") == TaskArithmetic(weight={"a": 0.0, "b": 0.25}, scale=1)
    assert rule_of("layers.4.attn.w") == TaskArithmetic(weight=7, scale=1)
    assert rule_of("head") == Average(weight={"a": 3, "b": 1})


def test_equal_options_are_one_rule():
    rule_of = resolved(
        {"models": {"a": "a", "b": "b"}, "options": {"weight": [{"filter": "mlp", "value": 2}]}}
    )
    assert rule_of("layers.0.mlp.w") is rule_of("layers.3.mlp.w")
    assert rule_of("layers.0.attn.w") is rule_of("embed.weight")
    assert rule_of("layers.0.attn.w") is not rule_of("layers.0.mlp.w")


@pytest.mark.parametrize(
    ("method", "options", "rules", "alone"),
    [
        ("ties", {"weight": {"gradient": [1, 2]}}, [], lambda t: TIES(weight=1 + t)),
        ("ties", {}, [{"filter": "layers.4", "options": {"scale": 2}}], lambda t: TIES(scale=1 + (t == 1))),
        ("ties", {"density": {"gradient": [0.2, 0.6]}}, [], lambda t: TIES(density=0.8 * 0.25 + 0.4 * t)),
        (
            "aggregated",
            {"rule": "MGDA", "scale": {"gradient": [1, 3]}},
            [],
            lambda t: Aggregated("MGDA", scale=1 + 2 * t),
        ),
        ("lines", {"beta": {"gradient": [0, 1]}}, [], lambda t: LiNeS(TIES(), beta=t)),
    ],
)
def test_what_is_found_over_all_tensors_is_so_although_options_differ_by_layer(
    method, options, rules, alone, tmp_path
):
    """Each tensor is as it is where its options hold for the whole model; layers change by unlike amounts."""
    files = {}
    for seed, name in enumerate(("base", "a", "b")):
        found = {
            f"layers.{i}.w": t * (1 + i) ** 2 for i, t in enumerate(list(tensors(seed).values())[:LAYERS])
        }
        files[name] = tmp_path / f"{name}.safetensors"
        save_file(found, files[name])
    base = files.pop("base")
    if method == "lines":
        options = {**options, "inner": "ties"}
    told = {"models": {n: str(f) for n, f in files.items()}, "base": str(base), "method": method}
    merged = Specified(specify({**told, "options": options, "rules": rules})).run()
    for i in range(LAYERS):
        name, depth = f"layers.{i}.w", i / (LAYERS - 1)
        wanted = merge(files, base, method=alone(depth))[name]
        assert torch.equal(merged[name], wanted)


def test_what_no_tensor_fits_is_noted(folder):
    told = {
        "models": {
            "a": {
                "path": str(folder / "a.safetensors"),
                "options": {"weight": [{"filter": "mpl", "value": 2}]},
            },
            "b": str(folder / "b.safetensors"),
        },
        "rules": [{"filter": "atn", "options": {"weight": 2}}, {"filter": "head", "options": {"weight": 2}}],
    }
    notes = [note for note in Specified(specify(told)).plan.notes if "does nothing" in note]
    assert len(notes) == 2
    assert "'atn' in its name, the filter of a rule" in notes[0]
    assert "'mpl' in its name, the filter of the option weight" in notes[1]


def test_a_model_without_a_value_has_the_default_and_a_mapping_names_all():
    models = {"a": {"path": "a", "options": {"weight": 2}}, "b": "b"}
    assert resolved({"models": models})("head") == Average(weight={"a": 2, "b": 1.0})
    part = resolved({"models": {"a": "a", "b": "b"}, "options": {"weight": {"a": 2}}})
    with pytest.raises(ValueError, match="given by model, and none for b"):
        part("head")
    models["a"]["options"] = {"preference": 2}
    alone = resolved({"models": models, "base": "base", "method": "aggregated"})
    with pytest.raises(ValueError, match="Aggregated: preference has no value for b in tensor 'head'"):
        alone("head")


def test_a_weight_for_an_unknown_model_is_refused():
    rule_of = resolved({"models": {"a": "a", "b": "b"}, "options": {"weight": {"a": 1, "bb": 2}}})
    with pytest.raises(ValueError, match="no model is called 'bb'; nearest: b"):
        rule_of("head")


def test_a_merge_by_specification_is_that_by_arguments(folder):
    told = specify(
        {
            "models": paths(folder, "a", "b"),
            "base": str(folder / "base.safetensors"),
            "method": "task_arithmetic",
            "options": {"weight": [0.5, 2], "scale": 0.3},
            "dtype": "bfloat16",
        }
    )
    found = Specified(told).run()
    method = TaskArithmetic(weight=[0.5, 2], scale=0.3)
    wanted = merge(paths(folder, "a", "b"), folder / "base.safetensors", method=method, dtype=torch.bfloat16)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_folder_that_holds_something_is_refused_before_all_is_read(folder):
    save_file({**tensors(1), "head": torch.full((4, 3), torch.nan)}, folder / "a.safetensors")
    found = Specified(specify({"models": paths(folder, "a", "b"), "check": True}))
    with pytest.raises(FileExistsError, match="exists already"):
        found.run(folder)


def test_same_tokenizer_refuses_other_tokens_and_unknown_ones(tmp_path):
    for seed, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        save_file(tensors(seed), tmp_path / name / "model.safetensors")
        vocab = {"yes": seed, "no": 1 - seed}
        content = {"model": {"vocab": vocab}, "added_tokens": []}
        (tmp_path / name / "tokenizer.json").write_text(json.dumps(content))
    told = {"models": [str(tmp_path / "a"), str(tmp_path / "b")], "same_tokenizer": True}
    with pytest.raises(ValueError, match=r"same_tokenizer: the tokenizers of .* differ in 2 of 2 ids"):
        Specified(specify(told))
    (tmp_path / "b" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"b has no tokenizer.json"):
        Specified(specify(told))
    (tmp_path / "b" / "tokenizer.json").write_bytes((tmp_path / "a" / "tokenizer.json").read_bytes())
    assert set(Specified(specify(told)).run()) == set(tensors(0))
