"""federate: what it takes, what it gives back, what it looks at."""

import pytest
import torch
from tests.federated.small import Small, dealt, flat

from equipoise.aggregation import MGDA, Mean
from equipoise.federated import AdaOMDTCH, ByRule, FedAvg, Local, NotANumber, federate
from equipoise.federated.engine.coordinator import first_model
from equipoise.problems import federation
from equipoise.scalarization import Tchebycheff


def run(held=None, algorithm=None, *, rounds=3, **options):
    options = {"local": Local(steps=2), "batching": "loop"} | options
    return federate(held or Small(), algorithm or FedAvg(), rounds=rounds, **options)


def test_what_comes_back_is_the_model_its_history_and_its_test():
    found = run(rounds=4)
    assert [record.number for record in found.history] == [1, 2, 3, 4]
    assert found.outputs == {}
    assert list(found.test) == ["last"]
    images, labels = dealt(2, "test")
    logits = found.model(images)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    assert found.test["last"]["c"]["loss"] == pytest.approx(loss.item(), rel=1e-12)
    assert found.test["last"]["c"]["score"] == float((logits.argmax(1) == labels).double().mean())


@pytest.mark.parametrize("rule", [MGDA(), Mean(), Tchebycheff()])
def test_a_bare_rule_combines_the_updates(rule):
    bare, wrapped = (run(algorithm=algorithm, test=False) for algorithm in (rule, ByRule(rule)))
    assert torch.equal(flat(bare.model), flat(wrapped.model))
    assert bare.history == wrapped.history


def test_the_test_split_is_looked_at_once_at_the_end_or_never():
    held = Small()
    looks = []
    found = run(held, told=lambda _: looks.append(held.asked.get("test", 0)))
    assert looks == [0, 0, 0]
    assert found.test
    held = Small()
    assert run(held, test=False).test == {}
    assert "test" not in held.asked


def test_outputs_are_judged_beside_the_last_iterate():
    found = run(algorithm=AdaOMDTCH())
    assert found.outputs.keys() | {"last"} == found.test.keys()
    assert found.outputs
    for name, model in found.outputs.items():
        assert set(found.test[name]) == set("abcde")
        assert model is not found.model


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_history_follows_the_split_that_is_watched(split):
    record = run(watch=split, evaluate_every=1, rounds=2).history[-1]
    model = run(rounds=2, test=False).model
    for place, name in enumerate("abcde"):
        images, labels = dealt(place, split)
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        assert record.judged[name]["loss"] == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("rounds", "every", "judged"),
    [(7, 3, [3, 6, 7]), (3, None, [1, 2, 3]), (60, None, list(range(3, 61, 3)))],
)
def test_rounds_are_judged_in_their_rhythm_and_at_the_end(rounds, every, judged):
    found = run(rounds=rounds, evaluate_every=every, test=False)
    assert [record.number for record in found.history if record.judged] == judged
    assert [record.number for record in found.history if record.conflict] == judged
    assert [record.number for record in found.history if record.cosines] == [rounds]


def test_records_say_what_happened():
    record = run(rounds=1).history[0]
    assert record.asked == tuple("abcde")
    assert sum(record.weights.values()) == pytest.approx(1)
    assert record.weights["a"] == pytest.approx(12 / 50)
    first = first_model(Small(), FedAvg(), 0)
    images, labels = dealt(0, "train")
    assert 0 < record.loss["a"] < 1.2 * torch.nn.functional.cross_entropy(first(images), labels).item()
    assert -1 <= record.conflict["least"] <= record.conflict["mean"] <= 1
    assert record.cosines["names"] == list("abcde")


def test_the_rate_of_the_federation_is_taken_where_no_schedule_is_given():
    held = federation("digits-clients", client_count=3, train=60, network="softmax")
    found = federate(held, FedAvg(), rounds=1, test=False)
    same = federate(held, FedAvg(), rounds=1, test=False, local=Local(learning_rate=held.learning_rate))
    assert torch.equal(flat(found.model), flat(same.model))


def test_watching_changes_nothing():
    quiet, watched = (run(evaluate_every=every, test=test) for every, test in ((99, False), (1, True)))
    assert torch.equal(flat(quiet.model), flat(watched.model))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"attacks": {"x": NotANumber()}}, "attacks name 'x', which is no client of a, b, c, d, e"),
        ({"batching": "fast"}, "batching"),
    ],
)
def test_what_makes_no_sense_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        run(**options)


def test_nothing_is_written_where_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="batching"):
        run(batching="fast", out=tmp_path / "run")
    assert not (tmp_path / "run" / "rounds.jsonl").exists()
