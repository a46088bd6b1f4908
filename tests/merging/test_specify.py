"""Specifications from files, and keys set upon them as the command line does."""

import json

import pytest
import yaml

from equipoise.core.card import cards
from equipoise.merging.methods import method_kind
from equipoise.merging.options import fields_of
from equipoise.merging.specification import MergeSpecification
from equipoise.merging.specify import changed, read_specification, specify


@pytest.mark.parametrize("ending", ["yaml", "json", "toml"])
def test_three_forms_say_the_same(ending, tmp_path):
    told = {"models": {"a": "x", "b": "y"}, "options": {"weight": 0.5}, "dtype": "bfloat16"}
    text = {
        "yaml": yaml.safe_dump(told),
        "json": json.dumps(told),
        "toml": 'dtype = "bfloat16"\n[models]\na = "x"\nb = "y"\n[options]\nweight = 0.5\n',
    }
    path = tmp_path / f"merge.{ending}"
    path.write_text(text[ending])
    assert specify(read_specification(path)) == specify(told)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: 1\n---\nb: 2\n", "a: [1\n", ""])
def test_what_is_no_mapping_is_refused_with_its_file(text, tmp_path):
    path = tmp_path / "merge.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"merge\.yaml: "):
        read_specification(path)


def test_what_is_printed_reads_back_as_the_same_with_all_defaults(tmp_path):
    told = specify(
        {"models": ["x/a", "x/b"], "base": "x/base", "method": "ties", "options": {"density": "3e-1"}}
    )
    path = tmp_path / "merge.yaml"
    path.write_text(told.to_yaml())
    again = specify(read_specification(path))
    assert again.model_copy(update={"options": told.options}) == told
    assert float(again.options["density"]) == 0.3
    assert (again.options["scope"], again.options["reduce"], again.options["scale"]) == (
        "global",
        "mean",
        1.0,
    )


def test_keys_are_set_on_options_models_and_the_specification_itself():
    given = {"models": ["x/a", "x/b"], "method": "TaskArithmetic"}
    found = specify(
        changed(given, {"scale": "0.3", "b.weight": "2", "dtype": "float16", "models.a.path": "z"})
    )
    assert found.options == {"scale": 0.3}
    assert found.models["b"].options == {"weight": 2}
    assert (found.dtype, found.models["a"].path) == ("float16", "z")
    assert given == {"models": ["x/a", "x/b"], "method": "TaskArithmetic"}


def test_names_of_models_may_hold_dots():
    given = {"models": ["x/v1.5", "x/v1"]}
    keys = {"v1.5.weight": "2", "v1.weight": "3", "models.v1.5.path": "z", "statistics.v1.5": "s"}
    found = specify(changed(given, keys))
    assert found.models["v1.5"].options == {"weight": 2}
    assert found.models["v1"].options == {"weight": 3}
    assert (found.models["v1.5"].path, found.statistics) == ("z", {"v1.5": "s"})
    with pytest.raises(ValueError, match=r"--set weight: '\[1,' is no value"):
        changed(given, {"weight": "[1,"})


def test_options_of_methods_can_be_set_by_their_names_alone():
    """None is called as a key of the specification, but one whose own keys `options.options.c=0.4` sets."""
    methods = [name for name, card in cards("merging").items() if card.shape == "merge"]
    keys = set(MergeSpecification.model_fields)
    assert {name: both for name in methods if (both := keys & set(fields_of(method_kind(name))))} == {
        "Aggregated": {"options"}
    }
    found = changed({"models": ["x/a"], "method": "lines"}, {"inner": "ties"})
    assert (found["method"], found["options"]) == ("lines", {"inner": "ties"})
    found = changed({"models": ["x/a"], "method": "aggregated"}, {"options.options.c": "0.4"})
    assert found["options"] == {"options": {"c": 0.4}}
