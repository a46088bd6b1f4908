from dataclasses import replace

import pytest
import torch
from tests.federated.small import Small
from tests.federated.watched import WHOLE, digits

from equipoise.aggregation import CoordinateMedian, Krum
from equipoise.federated import (
    FRL,
    RFFL,
    Bulyan,
    Duplicate,
    FedAvg,
    FreeRider,
    LabelFlip,
    Local,
    NotANumber,
    OneByte,
    RankReverse,
    Rescale,
    SignFlip,
    Silent,
    federate,
)
from equipoise.federated.attacks import Attack
from equipoise.federated.byrule import ByRule
from equipoise.federated.clientalgorithm import Reply
from equipoise.federated.engine.task import Trained


def seeded():
    return torch.Generator().manual_seed(3)


def honest(**sent):
    update = {"w": torch.tensor([[1.0, -2.0]], dtype=torch.float64), "b": torch.tensor(3.0)}
    return Trained("bob", Reply(update, sent, {}), {}, {})


def only(attack, one=None):
    (found,) = attack.replies(one or honest(), seeded())
    return found.reply


def test_updates_are_turned_and_scaled():
    assert only(Rescale(10.0)).update["w"].tolist() == [[10.0, -20.0]]
    assert only(SignFlip()).update["b"] == -3
    assert only(SignFlip(5)).update["w"].tolist() == [[-5.0, 10.0]]


def test_a_free_rider_sends_noise_of_its_size_whatever_it_learned():
    long = {"w": torch.zeros(1000), "v": torch.ones(3, dtype=torch.float64)}
    found = only(FreeRider(0.5), Trained("bob", Reply(long, {}, {}), {}, {})).update
    assert 0.45 < found["w"].abs().max() <= 0.5
    assert abs(float(found["w"].mean())) < 0.03
    assert found["v"].dtype == torch.float64
    other = {name: tensor + 1 for name, tensor in long.items()}
    again = only(FreeRider(0.5), Trained("bob", Reply(other, {}, {}), {}, {})).update
    assert torch.equal(again["w"], found["w"])


def test_rankings_are_turned_round_in_their_own_type():
    ranks = torch.tensor([2, 0, 1], dtype=torch.uint16)
    found = only(RankReverse(), honest(**{"ranks/w": ranks, "other": ranks})).sent
    assert found["ranks/w"].dtype == torch.uint16
    assert found["ranks/w"].tolist() == [1, 0, 2]
    assert found["other"].tolist() == [2, 0, 1]


def test_what_is_handed_in_stays_as_it_was():
    one = honest(**{"ranks/w": torch.tensor([1, 0], dtype=torch.uint8)})
    for attack in (FreeRider(), Rescale(2.0), SignFlip(), NotANumber(), RankReverse(), Duplicate()):
        attack.replies(one, seeded())
    assert one.reply.update["w"].tolist() == [[1.0, -2.0]]
    assert one.reply.sent["ranks/w"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("attack", "reason"),
    [(NotANumber(), "update '1.weight' is not finite"), (Duplicate(), "replied 2 times"), (Silent(), None)],
)
@pytest.mark.parametrize("way", ["loop", "batched"])
def test_what_is_no_update_counts_for_nothing(attack, reason, way):
    """The round is that of the others alone, and the history says whose reply was refused."""
    options = {"rounds": 2, "local": WHOLE, "test": False, "batching": way}
    found = federate(digits(), FedAvg(), attacks={"client-03": attack}, **options)
    for record in found.history:
        assert "client-03" not in record.weights
        assert record.quarantined == ({} if reason is None else {"client-03": reason})
    others = digits()
    keep = tuple(name for name in others.clients if name != "client-03")
    without = federate(Only(others, keep), FedAvg(), **options)
    for one, two in zip(found.model.parameters(), without.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)


class Only(LabelFlip):
    """A federation of some of the clients."""

    def __init__(self, federation, names):
        super().__init__(federation, {})
        self.names = names

    @property
    def clients(self):
        return self.names


def test_flipped_labels_reach_training_alone():
    plain = digits(split="iid")
    spoilt = LabelFlip(plain, {"client-01": (1, 7)})
    images, labels = plain.examples("client-01", "train")
    flipped = spoilt.examples("client-01", "train")
    assert torch.equal(flipped[0], images)
    assert torch.equal(flipped[1] == 7, (labels == 1) | (labels == 7))
    for split in ("validation", "test"):
        assert spoilt.examples("client-01", split) is plain.examples("client-01", split)
    assert spoilt.examples("client-00", "train") is plain.examples("client-00", "train")
    assert spoilt.label_counts("client-01")[1] == 0
    assert (spoilt.metric, spoilt.learning_rate) == (plain.metric, plain.learning_rate)


def test_flipped_labels_change_that_clients_update_in_both_ways_of_training():
    options = {"rounds": 1, "local": WHOLE, "test": False}
    spoilt = LabelFlip(digits(split="iid"), {"client-01": (1, 7)})
    both = [federate(spoilt, FedAvg(), batching=way, **options) for way in ("loop", "batched")]
    clean = federate(digits(split="iid"), FedAvg(), **options)
    for one, two, other in zip(*(run.model.parameters() for run in (*both, clean)), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-13)
        assert not torch.allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize(
    ("attack", "system", "words"),
    [
        (FreeRider(), OneByte(), "FreeRider of client 'client-03': this system has it send no update"),
        (NotANumber(), FRL(), "NotANumber of client 'client-03': .* no floating-point numbers"),
        (RankReverse(), FedAvg(), "RankReverse of client 'client-03': .* no rankings"),
    ],
)
def test_an_attack_on_what_is_not_sent_is_refused(attack, system, words):
    with pytest.raises(ValueError, match=words):
        federate(digits(), system, rounds=1, local=WHOLE, attacks={"client-03": attack}, test=False)


def test_options_out_of_range_are_refused():
    for make in (lambda: FreeRider(0), lambda: SignFlip(-1), lambda: Duplicate(1)):
        with pytest.raises(ValueError, match=r"at least 2|above 0"):
            make()
    with pytest.raises(ValueError, match="no client is called 'client-9'; nearest: client-0"):
        LabelFlip(digits(), {"client-9": (1, 7)})
    with pytest.raises(ValueError, match="the two classes differ"):
        LabelFlip(digits(), {"client-00": (1, 1)})


class LoudBuffers(Attack):
    """Sends statistics of BatchNorm that are far off, and says that it has nearly all of the examples."""

    def replies(self, honest, generator):
        side = honest.side | {"samples": torch.tensor(1e6, dtype=torch.float64)}
        return [replace(honest, side=side, buffers={n: t + 1e3 for n, t in honest.buffers.items()})]


@pytest.mark.parametrize(
    ("system", "holds"),
    [
        (FedAvg(), False),
        (Bulyan(byzantine=1), True),
        (ByRule(CoordinateMedian()), True),
        (ByRule(Krum(byzantine=1)), None),
        (FRL(), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_statistics_of_a_liar_reach_the_model_only_where_its_weight_does(system, holds):
    on = Small("abcdefg", network="batchnorm")
    local = Local(steps=2, batch_size=None, learning_rate=0.1)
    done = federate(on, system, rounds=2, local=local, attacks={"a": LoudBuffers()}, test=False)
    loud = max(float(b.abs().max()) for n, b in done.model.named_buffers() if b.is_floating_point()) > 50
    if holds is None:
        holds = done.history[-1].weights["a"] == done.history[0].weights["a"] == 0
    assert loud != holds


def test_who_was_removed_by_its_reputation_has_no_part_in_the_statistics():
    on = Small("abcde", network="batchnorm")
    local = Local(steps=2, batch_size=None, learning_rate=0.1)
    attacks = {"a": Both()}
    done = federate(on, RFFL(patience=0, alpha=0.0), rounds=20, local=local, attacks=attacks, test=False)
    assert "a" in done.history[-1].notes["removed"]
    assert max(float(b.abs().max()) for n, b in done.model.named_buffers() if b.is_floating_point()) < 50


class Both(SignFlip):
    """Turned updates and loud statistics."""

    def replies(self, honest, generator):
        turned = super().replies(honest, generator)
        return [replace(one, buffers={n: t + 1e3 for n, t in one.buffers.items()}) for one in turned]
