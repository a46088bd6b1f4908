"""MAP finds known fronts exactly, counts its evaluations, and goes on where it was killed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.merging.experts import accuracy, experts

from equipoise.core.quadratic import needed
from equipoise.merging import MAP, TIES, Average, TaskArithmetic, merge, trade_offs
from equipoise.merging.surrogate import fitted, leverages

BASE = {"w": torch.zeros(2)}
MODELS = {"a": {"w": torch.tensor([1.0, 0.0])}, "b": {"w": torch.tensor([0.0, 1.0])}}


def distances(state):
    """Squared distances to the experts: the front runs straight between them."""
    return {name: float((state["w"] - model["w"]).double().square().sum()) for name, model in MODELS.items()}


def test_a_quadratic_front_is_found_exactly_from_as_many_places_as_determine_it():
    found = trade_offs(
        MODELS, BASE, distances, better="lower", evaluations=needed(2) + 1, refine=0.0, points=11
    )
    assert found.evaluated == 7
    assert found.error == pytest.approx({"a": 0.0, "b": 0.0}, abs=1e-6)
    weights = torch.stack([one["weights"] for one in found.predicted.solutions])
    torch.testing.assert_close(weights.sum(1), torch.ones(11, dtype=torch.float64), rtol=0.0, atol=1e-3)
    roots = found.predicted.points.sqrt().sum(1)  # both distances along the segment add up to its length
    torch.testing.assert_close(roots, torch.full_like(roots, 2**0.5), rtol=0.0, atol=1e-3)
    even = found.pick({"a": 0.5, "b": 0.5})
    assert even.coefficients == pytest.approx({"a": 0.5, "b": 0.5}, abs=1e-3)
    assert even.metrics == pytest.approx({"a": 0.5, "b": 0.5}, abs=1e-3)
    assert found.pick({"a": 1.0, "b": 0.0}).coefficients == pytest.approx({"a": 1.0, "b": 0.0}, abs=1e-2)


def test_higher_is_better_turns_the_sign_and_ways_may_be_mixed():
    def mixed(state):
        far = distances(state)
        return {"near": 1 - far["a"], "far": far["b"]}

    found = trade_offs(MODELS, BASE, mixed, better={"near": "higher", "far": "lower"})
    assert found.predicted.names == ("-near", "far")
    assert found.pick([0.5, 0.5]).metrics == pytest.approx({"near": 0.5, "far": 0.5}, abs=1e-3)
    assert found.pick([0.5, 0.5], of="measured").metrics["near"] <= 1
    with pytest.raises(ValueError, match="no metric is called 'fare'"):
        found.pick({"fare": 1.0})
    with pytest.raises(ValueError, match="does not say whether higher or lower 'far'"):
        trade_offs(MODELS, BASE, mixed, better={"near": "higher"})


def test_a_preference_becomes_a_model_in_one_call(tmp_path):
    paths = {}
    for name, tensors in {**MODELS, "base": BASE}.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        paths[name] = tmp_path / f"{name}.safetensors"
    base = paths.pop("base")
    found = trade_offs(paths, base, distances, better="lower")
    assert found.merge([0.5, 0.5], out=tmp_path / "out") == {}
    written = load_file(tmp_path / "out" / "model.safetensors")["w"]
    torch.testing.assert_close(written, torch.tensor([0.5, 0.5]), rtol=0.0, atol=1e-3)
    assert torch.equal(written, found.merge([0.5, 0.5])["w"])


def test_the_sigmoid_link_recovers_a_linked_quadratic():
    """Values sigmoid(q(c)) have no error under the link, and some without it."""
    draw = np.random.default_rng(0)
    places = torch.from_numpy(draw.random((20, 2)))

    def q(c):
        return 4 * c[:, 0] - 6 * c[:, 0] ** 2 + 3 * c[:, 0] * c[:, 1] + c[:, 1] - 1

    values = torch.stack([q(places).sigmoid(), q(1 - places).sigmoid()], 1)
    options = {"better": ("higher", "higher"), "low": 0.0, "high": 1.0}
    linked = fitted(("left", "right"), places, values, link="sigmoid", **options)
    plain = fitted(("left", "right"), places, values, link="none", **options)
    other = torch.from_numpy(draw.random((30, 2)))
    right = torch.stack([q(other).sigmoid(), q(1 - other).sigmoid()], 1)
    torch.testing.assert_close(linked.predict(other), right, rtol=0.0, atol=1e-4)
    assert linked.error.max() < 1e-3 < plain.error.min()
    with pytest.raises(ValueError, match="right lies outside"):
        fitted(("left", "right"), places, values + torch.tensor([0.0, 1.0]), link="sigmoid", **options)


def test_the_reported_error_is_that_of_places_left_out():
    draw = np.random.default_rng(1)
    places, values = torch.from_numpy(draw.random((15, 2))), torch.from_numpy(draw.random((15, 1)))
    for link in ("none", "sigmoid"):
        options = {"better": ("lower",), "link": link, "low": 0.0, "high": 1.0}
        missed = []
        for i in range(15):
            rest = torch.arange(15) != i
            found = fitted(("x",), places[rest], values[rest], **options)
            missed.append(float(found.predict(places[i : i + 1]) - values[i : i + 1]))
        right = np.sqrt(np.mean(np.square(missed))) / values.numpy().std()
        assert fitted(("x",), places, values, **options).error.item() == pytest.approx(right, rel=1e-3)


def test_leverage_is_the_variance_of_a_prediction():
    """Its mean over the places of the fit is the number of coefficients over that of places."""
    known = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    assert leverages(known, known).sum() == pytest.approx(10)
    assert np.isinf(leverages(np.zeros((1, 1)), np.ones((1, 1)))).all()


def test_refinement_goes_to_the_front_and_lowers_the_error_there():
    """A metric that is no quadratic: places of the front are better known after refinement."""

    def bent(state):
        far = distances(state)
        return {name: value**1.5 for name, value in far.items()}

    def missed(found):
        front = found.predicted
        true = [bent({"w": one["weights"].float()}) for one in front.solutions]
        return float((torch.tensor([list(one.values()) for one in true]) - front.points).abs().mean())

    rough = trade_offs(MODELS, BASE, bent, better="lower", evaluations=8, refine=0.0)
    fine = trade_offs(MODELS, BASE, bent, better="lower", evaluations=16, refine=0.5)
    assert (rough.evaluated, fine.evaluated) == (8, 16)
    assert missed(fine) < missed(rough)
    assert len({tuple(place.tolist()) for place in fine.surrogate.quadratic.inputs}) == 16


def test_any_method_with_weights_serves():
    seen = []

    def note(state):
        seen.append(state["w"].clone())
        return distances(state)

    method = partial(TIES, density=1.0, reduce="sum")
    found = trade_offs(MODELS, BASE, note, better="lower", method=method, evaluations=6)
    for place, state in zip(found.surrogate.quadratic.inputs, seen, strict=True):
        torch.testing.assert_close(state, place.float())
    assert isinstance(found.rule({"a": 0.5, "b": 0.5}), TIES)


def test_one_model_gives_the_scale_that_its_metric_likes():
    found = trade_offs(
        {"a": MODELS["a"]}, BASE, lambda s: {"x": (float(s["w"][0]) - 0.25) ** 2}, better="lower"
    )
    assert found.pick().coefficients == pytest.approx({"a": 0.25}, abs=1e-3)


def test_fewer_places_than_needed_say_that_nothing_is_known_of_the_error():
    found = trade_offs(MODELS, BASE, distances, better="lower", evaluations=3)
    assert found.evaluated == 3
    assert found.error == {"a": float("inf"), "b": float("inf")}
    assert found.measured.record["error"] == [None, None]


def test_real_experts():
    """The predicted pick beats the base and the average in the worst view, at the scale of the error."""
    models, base = experts(800, 60)
    found = trade_offs(models, base, accuracy, link="sigmoid", points=9)
    assert found.evaluated == 3 * needed(3)
    picked = accuracy(found.merge(of="measured"))
    assert min(picked.values()) >= min(accuracy(base).values())
    assert found.measured.nondominated().hypervolume([0.0] * 3) > 0
    assert found.predicted.plot() is not None


RUN = """
    import sys, torch
    from equipoise.merging import trade_offs

    base, models = {"w": torch.zeros(2)}, {"a": {"w": torch.eye(2)[0]}, "b": {"w": torch.eye(2)[1]}}

    def evaluate(state):
        print("evaluated", flush=True)
        if sys.argv[2] == "wait":
            sys.stdin.readline()
        return {name: float((state["w"] - model["w"]).square().sum()) for name, model in models.items()}

    found = trade_offs(models, base, evaluate, better="lower", evaluations=9, folder=sys.argv[1])
    print(found.evaluated, found.pick([0.3, 0.7]).coefficients)
"""


def run(folder, how, **options):
    command = [sys.executable, "-c", textwrap.dedent(RUN), str(folder), how]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_killed_run_goes_on_and_evaluates_nothing_twice(tmp_path):
    process = run(tmp_path / "killed", "wait")
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(4):
        assert process.stdout.readline() == "evaluated\n"
        process.stdin.write("\n")
        process.stdin.flush()
    assert process.stdout.readline() == "evaluated\n"  # the fifth is under way
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    noted = (tmp_path / "killed" / "evaluations.jsonl").read_text().splitlines()
    assert len(noted) == 1 + 4
    with (tmp_path / "killed" / "evaluations.jsonl").open("a") as file:
        file.write('{"weights": {"a": 0.1')  # as a kill within a write would leave it
    again, _ = run(tmp_path / "killed", "go").communicate()
    whole, _ = run(tmp_path / "whole", "go").communicate()
    assert again.splitlines()[-1] == whole.splitlines()[-1]
    assert (again.count("evaluated"), whole.count("evaluated")) == (5, 9)
    files = [(tmp_path / name / "evaluations.jsonl").read_text() for name in ("killed", "whole")]
    assert files[0] == files[1]


def test_a_folder_of_another_merge_is_refused(tmp_path):
    trade_offs(MODELS, BASE, distances, better="lower", evaluations=6, folder=tmp_path)
    with pytest.raises(
        ValueError, match=r"evaluations of other merges: method was 'TaskArithmetic.*scale=0.5"
    ):
        trade_offs(MODELS, BASE, distances, method=partial(TaskArithmetic, scale=0.5), folder=tmp_path)
    with pytest.raises(ValueError, match="models was"):
        trade_offs({"a": MODELS["a"]}, BASE, distances, folder=tmp_path)
    first = json.loads((tmp_path / "evaluations.jsonl").read_text().splitlines()[0])
    assert first["models"] == ["a", "b"]


def test_evaluations_hang_on_contents_and_on_what_is_said_of_the_evaluation(tmp_path):
    """Models in memory and files alike: others under the same names are refused, and the same are not."""
    paths = {name: tmp_path / f"{name}.safetensors" for name in (*MODELS, "base")}
    for name, tensors in {**MODELS, "base": BASE}.items():
        save_file(tensors, paths[name])
    base = paths.pop("base")
    options = {"better": "lower", "evaluations": 6, "about": {"data": "one"}}
    for given, start, folder in ((MODELS, BASE, "memory"), (paths, base, "files")):
        trade_offs(given, start, distances, folder=tmp_path / folder, **options)

        def refused(words, given=given, start=start, folder=folder, **changed):
            with pytest.raises(ValueError, match=f"evaluations of other merges: {words}"):
                trade_offs(given, start, distances, folder=tmp_path / folder, **{**options, **changed})

        refused("evaluation.data was 'one'", about={"data": "two"})
        refused("options.dtype", dtype=torch.float16)
        refused("box was", high=2.0)
        other = {"w": torch.tensor([0.0, 1.5])}
        if folder == "files":
            save_file(other, paths["b"])
            refused("sources.b was")
            save_file(MODELS["b"], paths["b"])
            refused("base was", start=paths["a"])
        else:
            refused("sources.b was", given={**MODELS, "b": other})
            refused("base was", start=other)
        again = trade_offs(
            given, start, lambda s: pytest.fail("evaluated"), folder=tmp_path / folder, **options
        )  # nothing is evaluated
        assert again.evaluated == 6


@pytest.mark.parametrize(
    "content", ["notes of mine", '{"mine": 1}\n{"mine": 2}', "[]\n", "{}\n", "nothing\n", "1\n2"]
)
def test_a_foreign_file_is_refused_and_left_as_it_is(content, tmp_path):
    file = tmp_path / "evaluations.jsonl"
    file.write_text(content)
    with pytest.raises(ValueError, match="holds no evaluations"):
        trade_offs(MODELS, BASE, distances, folder=tmp_path)
    assert file.read_text() == content


@pytest.mark.parametrize(("options", "words"), [
    ({"better": {"a": "lower", "bb": "lower"}}, "better: no metric is called 'bb'"),
    ({"better": {"a": "lower"}}, "does not say whether higher or lower 'b'"),
    ({"better": "lower", "link": "sigmoid"}, r"a, b lies outside \[0, 1\]"),
])  # fmt: skip
def test_options_that_do_not_fit_the_metrics_cost_one_evaluation(options, words):
    seen = []

    def evaluate(state):
        seen.append(state)
        return {name: 2 * value + 1 for name, value in distances(state).items()}

    with pytest.raises(ValueError, match=words):
        trade_offs(MODELS, BASE, evaluate, **options)
    assert len(seen) == 1


@pytest.mark.parametrize("options", [{}, {"low": -1.0}])
def test_a_method_without_a_place_of_the_box_costs_no_evaluation(options):
    with pytest.raises(ValueError, match=r"MAP: Average cannot merge at the weights .*sum to 0"):
        trade_offs(MODELS, None, lambda s: pytest.fail("evaluated"), method=Average, **options)
    found = trade_offs(MODELS, None, distances, method=Average, better="lower", low=0.1)
    assert found.evaluated == 18


def test_options_of_the_merging_reach_each_model_and_the_one_that_is_picked():
    kinds = set()

    def evaluate(state):
        kinds.add(state["w"].dtype)
        return distances(state)

    given = {
        "a": {"w": torch.tensor([1.0, 0.0])},
        "b": {"w": torch.tensor([0.0, 1.0]), "more": torch.ones(1)},
    }
    options = {"dtype": torch.float16, "on_missing": "base", "threads": 1, "check": True}
    found = trade_offs(given, BASE, evaluate, better="lower", evaluations=6, **options)
    assert kinds == {torch.float16}
    assert found.merge([0.5, 0.5])["w"].dtype == torch.float16
    assert found.merge([0.5, 0.5], dtype=torch.float64)["w"].dtype == torch.float64
    with pytest.raises(ValueError, match="out is for the model that is picked"):
        trade_offs(given, BASE, evaluate, out="x")


@pytest.mark.parametrize(("evaluate", "words"), [
    (lambda s: {}, "no metric at the weights a 0, b 0"),
    (lambda s: {"x": float("nan")}, "the metric x is nan at the weights a 0, b 0"),
    (lambda s: {"x" if s["w"][0] == 1 else "y": 0.0}, "gave x at the weights a 1, b 0, before that y"),
])  # fmt: skip
def test_bad_metrics_are_named_with_their_weights(evaluate, words):
    with pytest.raises(ValueError, match=words):
        trade_offs(MODELS, BASE, evaluate)


@pytest.mark.parametrize(("options", "words"), [
    ({"evaluations": 0}, "evaluations is 0"),
    ({"refine": 1.0}, "refine is 1.0"),
    ({"low": 1.0}, "high must be above low"),
    ({"link": "probit"}, "no link is called 'probit'"),
    ({"better": "more"}, "better is 'more'"),
    ({"points": 0}, "points is 0"),
])  # fmt: skip
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        MAP(**options)


def test_weights_beyond_one_are_sought_where_they_are_allowed():
    def far(state):
        return {"x": float((state["w"] - torch.tensor([2.0, -1.0])).square().sum())}

    found = trade_offs(MODELS, BASE, far, better="lower", low=-3.0, high=3.0)
    assert found.pick().coefficients == pytest.approx({"a": 2.0, "b": -1.0}, abs=1e-2)
    merged = merge(MODELS, BASE, method=found.rule(found.pick()))["w"]
    torch.testing.assert_close(merged, torch.tensor([2.0, -1.0]), rtol=0.0, atol=1e-2)
