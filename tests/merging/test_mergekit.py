"""Files in the form of mergekit become specifications of this project, or are refused by the key at fault."""

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from equipoise.merging import Average, Slerp
from equipoise.merging.mergekit import translated
from equipoise.merging.peermethods import METHODS
from equipoise.merging.specified import Specified
from equipoise.merging.specify import specify

TIES = """
merge_method: ties
base_model: org/start
models:
  - model: org/chat
    parameters: {density: [1, 0.5, 0.25], weight: 1e0}
  - model: org/code
    parameters:
      density: 0.3
      weight:
        - {filter: mlp, value: [0.5, 1]}
        - value: 0
parameters: {normalize: true, int8_mask: true}
dtype: float16
"""
SLICES = """
merge_method: slerp
base_model: org/one
slices:
  - sources:
      - {model: org/two, layer_range: [0, 4]}
      - {model: org/one, layer_range: [0, 4]}
    parameters: {t: 0.25}
parameters:
  t:
    - {filter: attn, value: [0, 1]}
    - {value: 0.5}
dtype: bfloat16
out_dtype: float32
tokenizer_source: base
"""


def test_models_with_gradients_and_filters():
    told = specify(yaml.safe_load(TIES))
    assert (told.method, told.base, told.dtype, told.precision) == ("TIES", "org/start", "float16", None)
    assert {name: model.path for name, model in told.models.items()} == {
        "chat": "org/chat",
        "code": "org/code",
    }
    assert told.models["chat"].options == {"density": {"gradient": [1, 0.5, 0.25]}, "weight": "1e0"}
    assert told.models["code"].options["weight"] == [
        {"filter": "mlp", "value": {"gradient": [0.5, 1]}},
        {"value": 0},
    ]
    assert told.options == {"preset": "mergekit", "scale": 1.0, "density": 1.0, "reduce": "mean"}


def test_slices_with_the_base_as_the_first_model():
    told = specify(yaml.safe_load(SLICES))
    (piece,) = told.slices
    assert [(source.model, source.layers) for source in piece.sources] == [("one", (0, 4)), ("two", (0, 4))]
    assert piece.options == {"t": 0.25}
    assert (told.base, told.dtype, told.same_tokenizer) == (None, "float32", True)


def test_the_base_of_linear_counts_as_a_model_and_that_of_task_vectors_does_not():
    models = [{"model": "x/a", "parameters": {"weight": 1}}, {"model": "x/b", "parameters": {"weight": 2}}]
    given = {"merge_method": "linear", "base_model": "x/b", "models": models}
    assert list(translated(given)["models"]) == ["a", "b"]
    found = translated({**given, "merge_method": "task_arithmetic"})
    assert (list(found["models"]), found["base"]) == (["a"], "x/b")
    absent = {**given, "base_model": "x/c", "parameters": {"weight": 0.5}}
    assert list(translated(absent)["models"]) == ["a", "b", "c"]


def test_a_method_is_read_with_mergekits_defaults_not_ours():
    models = [{"model": "x/a"}, {"model": "x/b"}]
    for name, method in METHODS.items():
        given = {"merge_method": name, "models": models, "base_model": "x/base"}
        if method.base in ("first", "model"):
            given["models"] = [*models[:1], {"model": "x/base"}]
        if method.alone:
            given |= {"models": models[:1], "base_model": None}
        if method.count == (1, 1) and not method.alone:
            given["models"] = models[:1]
        given["parameters"] = dict.fromkeys([*method.required, *method.required_single], 0.5)
        found = specify(given)
        for option, value in method.defaults.items():
            assert found.options[option] == value


def test_mergekits_default_stands_where_no_filter_fits():
    density = [{"filter": "mlp", "value": 0.4}]
    models = [{"model": "x/a", "parameters": {"weight": 1}}, {"model": "x/b", "parameters": {"weight": 1}}]
    given = {"merge_method": "dare_linear", "models": models, "base_model": "x/c"}
    told = specify({**given, "parameters": {"density": density}})
    assert told.options["density"] == [*density, {"value": 1.0}]  # the default of DARE here is another


def test_nuslerp_takes_whole_tensors_rows_or_columns():
    models = [{"model": "x/a"}, {"model": "x/b"}]

    def vectors(**parameters):
        given = {"merge_method": "nuslerp", "models": models, "parameters": {"weight": 1, **parameters}}
        return specify(given).options.get("vectors", "tensor")

    assert vectors() == vectors(nuslerp_flatten=True, nuslerp_row_wise=True) == "tensor"
    assert vectors(nuslerp_flatten=False) == "rows"
    assert vectors(nuslerp_flatten=False, nuslerp_row_wise=True) == "columns"


A, B = {"model": "a", "parameters": {"weight": 1}}, {"model": "b", "parameters": {"weight": 1}}
LINEAR = {"merge_method": "linear", "models": [A, B]}
TASKS = {"merge_method": "task_arithmetic", "models": [A, B], "base_model": "c"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({**LINEAR, "merge_method": "ram"}, "'ram'; mergekit has it, this project has not"),
        ({**LINEAR, "merge_method": "liner"}, "no merge_method is called 'liner'; nearest: linear"),
        ({**LINEAR, "align_weights": "zipit"}, "no key is called 'align_weights'"),
        ({**LINEAR, "chat_template": "auto"}, "chat_template is not supported"),
        ({"merge_method": "linear", "modules": {}}, "modules is not supported"),
        ({**LINEAR, "slices": []}, "exactly one of models and slices"),
        ({**LINEAR, "dtype": "int64"}, "dtype: no dtype is called 'int64'"),
        ({**LINEAR, "tokenizer": {"source": "base", "tokens": {}}}, "tokenizer.tokens is not supported"),
        ({**LINEAR, "tokenizer_source": "base", "tokenizer": {"source": "base"}}, "both tokenizer_source"),
        ({**LINEAR, "parameters": {"density": 1}}, "parameters: no parameter is called 'density'"),
        ({**LINEAR, "models": [A, {"model": "b"}]}, "models: b: parameters.weight is missing"),
        ({**LINEAR, "models": [A, A]}, "models: the model a is named twice"),
        ({**LINEAR, "models": [A, {"model": "b+lora"}]}, "models[1].model: 'b+lora' names a LoRA adapter"),
        ({**LINEAR, "models": [A, {"model": "b@main"}]}, "'b@main' names a revision"),
        ({**LINEAR, "models": [A, {"model": "b", "lora": "x"}]}, "models[1]: no key is called 'lora'"),
        (
            {**LINEAR, "models": [A, {"model": {"model": "b", "lora": "x"}}]},
            "models[1].model.lora is not supported",
        ),
        (
            {**LINEAR, "models": [A, {"model": "b", "parameters": {"normalize": False}}]},
            "models[1].parameters.normalize is one for all models",
        ),
        (
            {
                **LINEAR,
                "models": [A, {"model": "b", "parameters": {"weight": [{"pattern": "x", "value": 1}]}}],
            },
            "models[1].parameters.weight: no key is called 'pattern'",
        ),
        ({**TASKS, "base_model": None}, "base_model is missing; task_arithmetic needs it"),
        (
            {**TASKS, "merge_method": "ties", "parameters": {"rescale": True}},
            "parameters.rescale is not supported",
        ),
        ({"merge_method": "slerp", "models": [{"model": "a"}], "base_model": "c"}, "parameters.t is missing"),
        (
            {"merge_method": "slerp", "models": [{"model": n} for n in "abc"], "base_model": "c"},
            "models: slerp takes 2 models, not 3",
        ),
        (
            {"merge_method": "passthrough", "slices": [{"sources": [{"model": "a", "layer_range": [0]}]}]},
            "slices[0].sources[0].layer_range is two whole numbers, not [0]",
        ),
        (
            {
                "merge_method": "passthrough",
                "slices": [{"sources": [{"model": "a", "layer_range": [0, 1]}], "residual_weight": 1.0}],
            },
            "slices[0].residual_weight is not supported",
        ),
        (
            {
                **{key: value for key, value in TASKS.items() if key != "models"},
                "slices": [{"sources": [{**A, "layer_range": [0, 1]}]}],
            },
            "slices[0].sources: base_model c is not among them",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_its_key(given, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        specify(given)
    assert words in str(error.value)


def tensors(seed):
    draw = torch.Generator().manual_seed(seed)
    names = ["embed.w", *(f"layers.{i}.{part}.w" for i in range(3) for part in ("attn", "mlp")), "norm.w"]
    return {name: torch.randn(4, 3, generator=draw) for name in names}


def test_gradients_run_over_the_layers_and_stand_at_their_start_outside(tmp_path):
    """The depth of layer i of n is i / (n - 1), that of embeddings and last norm 0, as in mergekit's plan."""
    for seed, name in enumerate("ab"):
        save_file(tensors(seed), tmp_path / f"{name}.safetensors")
    paths = [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    models = [
        {"model": paths[0], "parameters": {"weight": [0, 1, 4]}},
        {"model": paths[1], "parameters": {"weight": 1}},
    ]
    found = Specified(specify({"merge_method": "linear", "models": models})).run()
    a, b = (load_file(path) for path in paths)
    for name, weight in (
        ("embed.w", 0),
        ("layers.0.mlp.w", 0),
        ("layers.1.mlp.w", 1),
        ("layers.2.attn.w", 4),
    ):
        torch.testing.assert_close(found[name], (weight * a[name] + b[name]) / (weight + 1))
    assert torch.equal(found["norm.w"], b["norm.w"])


def test_rules_are_those_of_this_project(tmp_path):
    for seed, name in enumerate("ab"):
        save_file(tensors(seed), tmp_path / f"{name}.safetensors")
    models = [{"model": str(tmp_path / f"{name}.safetensors")} for name in "ab"]
    base = models[1]["model"]
    slerp = {"merge_method": "slerp", "models": models, "base_model": base, "parameters": {"t": 0.3}}
    (rule,) = [rule for rule, _ in Specified(specify(slerp)).plan.by_rule()]
    assert rule == Slerp(t=0.3)
    linear = {"merge_method": "linear", "models": models, "parameters": {"weight": 2, "normalize": False}}
    (rule,) = [rule for rule, _ in Specified(specify(linear)).plan.by_rule()]
    assert rule == Average(weight=2, normalize=False)
