"""Standings, costs and the page of federated runs."""

from dataclasses import replace

import pytest

from equipoise.core.problem import Metric
from equipoise.federated import FedAvg, FedGTST, Local, NotANumber, Participation, federate
from equipoise.federated.report import clearly, costs, sentence, standings, summary
from equipoise.federated.reportpage import page, readable
from equipoise.problems import federation

ACCURACY = Metric("accuracy", "higher")


@pytest.fixture(scope="module")
def runs():
    digits = federation("digits-clients", client_count=4)
    digits.prepare()
    options = {
        "rounds": 4,
        "local": Local(steps=2),
        "participation": Participation(dropout=0.3),
        "attacks": {"client-02": NotANumber()},
    }
    return {
        name: [federate(digits, system, seed=seed, **options) for seed in range(3)]
        for name, system in {"FedAvg": FedAvg(), "<b>tuned": FedGTST()}.items()
    }


def test_standings_are_those_of_the_test_split(runs):
    found = {one.system: one for one in standings(runs, ACCURACY)}
    scores = [[each["score"] for each in run.test["last"].values()] for run in runs["FedAvg"]]
    assert found["FedAvg"].mean == pytest.approx(sum(map(sum, scores)) / 12)
    assert found["FedAvg"].worst == pytest.approx(sum(map(min, scores)) / 3)
    assert found["FedAvg"].best == pytest.approx(sum(map(max, scores)) / 3)
    assert list(found["FedAvg"].scores) == ["client-00", "client-01", "client-02", "client-03"]


def test_costs_count_every_reply(runs):
    cost = next(one for one in costs(runs) if one.system == "FedAvg")
    histories = [run.history for run in runs["FedAvg"]]
    assert cost.rounds == 4
    assert cost.asked == 16
    assert cost.lost == pytest.approx(sum(len(r.lost) for h in histories for r in h) / 3)
    refused = sum(len(r.quarantined) for h in histories for r in h)
    assert refused > 0
    assert cost.refused == pytest.approx(refused / 3)


def test_a_difference_within_the_seeds_is_not_told_as_one(runs):
    one = standings(runs, ACCURACY)[0]
    ahead = replace(one, system="a", worst_by_seed=(0.8, 0.81, 0.82))
    behind = replace(one, system="b", worst_by_seed=(0.7, 0.7, 0.71))
    mixed = replace(one, system="b", worst_by_seed=(0.9, 0.6, 0.7))
    assert clearly(ahead, behind)
    assert not clearly(ahead, mixed)
    assert not clearly(replace(ahead, worst_by_seed=(0.8,)), replace(behind, worst_by_seed=(0.1,)))
    assert sentence([ahead, behind], ACCURACY).startswith("a serves the worst client best")
    assert sentence([ahead, mixed], ACCURACY).startswith("Which system serves the worst client best cannot")


def test_for_errors_the_worst_client_is_the_highest(runs):
    found = standings(runs, Metric("error", "lower"))
    assert all(one.worst >= one.mean >= one.best for one in found)


def test_the_summary_is_plain(runs):
    import json

    found = json.loads(json.dumps(summary(runs, ACCURACY), allow_nan=False))
    assert {one["system"] for one in found["standings"]} == set(runs)


def test_the_page_escapes_names_and_names_the_refused(runs):
    text = page("digits", runs, ACCURACY, watch="validation", command="equipoise federate digits-clients")
    assert "<b>tuned" not in text.partition("</script>")[2].replace("&lt;b&gt;tuned", "")
    assert "client-02" in text
    assert "is not finite" in text
    assert "Refused replies" in text


@pytest.mark.parametrize(("count", "words"), [(12, "12 B"), (1_230, "1.23 kB"), (4_500_000, "4.5 MB")])
def test_bytes_are_told_in_words(count, words):
    assert readable(count) == words


def without(run, round_number, client):
    """The run of a deployment where a client's node was away in a round, and at the end."""
    history = [
        replace(record, judged={name: each for name, each in record.judged.items() if name != client})
        if record.number == round_number
        else record
        for record in run.history
    ]
    test = {output: {n: each for n, each in one.items() if n != client} for output, one in run.test.items()}
    return replace(run, history=history, test=test)


def test_a_client_that_was_not_always_judged_is_left_out_by_name(runs):
    first, *others = runs["FedAvg"]
    gone = {"FedAvg": [without(first, 1, "client-01"), *others], "<b>tuned": runs["<b>tuned"]}
    assert {len(one.scores) for one in standings(gone, ACCURACY)} == {3}
    assert summary(gone, ACCURACY)["left_out"] == ["client-01"]
    assert "left out of the table: client-01" in page("digits", gone, ACCURACY, watch="validation")


def test_runs_with_no_client_in_common_are_refused(runs):
    run = runs["FedAvg"][0]
    for name in list(run.test["last"]):
        run = without(run, 1, name)
    with pytest.raises(ValueError, match="no client was judged in all runs"):
        standings({"FedAvg": [run]}, ACCURACY)
