import numpy as np
import pytest
import torch
from tests.federated.watched import digits, run
from torch import nn
from torch.nn.utils import parametrize

from equipoise.federated import FRL, Local, RankReverse, federate
from equipoise.federated.attacks import Attack
from equipoise.federated.engine.coordinator import first_model
from equipoise.federated.frl import ranking

SGD = Local(steps=4, batch_size=None, learning_rate=0.4, momentum=0.9)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def network():
    return digits(network="mlp")


def vote(rankings, first_scores):
    """Mozaffari et al. 2023: sum of places, weights sorted by it, sorted scores handed out."""
    total = np.zeros(len(first_scores))
    for ranks in rankings:
        for place, weight in enumerate(ranks):
            total[weight] += place
    after = np.empty(len(first_scores))
    after[np.argsort(total, kind="stable")] = np.sort(first_scores)
    return after


def test_a_round_is_a_vote_over_the_rankings_of_the_clients():
    system = FRL()
    first = dict(first_model(network(), system, 0).named_parameters())
    _, seen = run(system, 2, on=network(), local=SGD)
    for one in seen:
        assert not one.round.bundle.blocks
        for name, before in one.round.parameters.items():
            after = before + one.outcome.update[name]
            wanted = vote(one.round.sent[f"ranks/{name}"].numpy(), first[name].detach().flatten().numpy())
            np.testing.assert_allclose(after.flatten().numpy(), wanted, rtol=1e-12, atol=1e-15)


def test_clients_send_the_order_of_scores_that_straight_through_descent_gives():
    """One step, in plain autograd: the gradient of a score is that of its weight, times the fixed weight."""
    system, on = FRL(), digits()
    model = first_model(on, system, 0)
    layer = model[1]
    fixed, scores = layer.parametrizations.weight[0].fixed, layer.parametrizations.weight.original.detach()
    _, seen = run(system, 1, on=on, local=Local(steps=1, batch_size=None, learning_rate=0.4))
    least = np.sort(scores.flatten().numpy())[scores.numel() // 2]
    used = (fixed * (scores >= least)).requires_grad_()
    for name, ranks in zip(
        on.clients, seen[0].round.sent["ranks/1.parametrizations.weight.original"], strict=True
    ):
        images, labels = on.examples(name, "train")
        loss = nn.functional.cross_entropy(images.flatten(1) @ used.T, labels)
        (gradient,) = torch.autograd.grad(loss, used)
        after = scores - 0.4 * gradient * fixed
        np.testing.assert_array_equal(ranks.numpy(), np.argsort(after.flatten().numpy(), kind="stable"))


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 1.0])
def test_a_network_of_fixed_random_signs_has_its_top_share_in_use(kept):
    model = first_model(network(), FRL(kept=kept), 1)
    assert [name for name, _ in model.named_parameters()] == [
        "1.parametrizations.weight.original",
        "3.parametrizations.weight.original",
    ]
    for layer in (model[1], model[3]):
        assert layer.bias is None
        scores, used = layer.parametrizations.weight.original.detach(), layer.weight.detach()
        fan_in, count = used.shape[1], used.numel()
        assert torch.count_nonzero(used) == round(kept * count)
        torch.testing.assert_close(
            used[used != 0].abs().unique(), torch.tensor([(2 / fan_in) ** 0.5]).double()
        )
        assert abs(float(used.sign().mean())) < 0.1
        assert float(scores[used != 0].min()) >= float(scores[used == 0].max() if kept < 1 else -1)
        assert 0.9 < float(scores.abs().max()) * fan_in**0.5 <= 1


def test_every_process_draws_the_same_network_and_none_of_it_is_sent():
    one, two = (first_model(network(), FRL(), 4) for _ in range(2))
    for a, b in zip(one.buffers(), two.buffers(), strict=True):
        assert torch.equal(a, b)
    assert all("fixed" not in name for name in one.state_dict())
    other = first_model(network(), FRL(), 5)
    assert not torch.equal(next(one.buffers()), next(other.buffers()))


def test_bytes_are_those_of_the_smallest_integers():
    """64 x 64 weights take 2 bytes each, 10 x 64 as well; FedAvg would send 4 of each and of the biases."""
    record = federate(network(), FRL(), rounds=1, local=SGD, test=False).history[0]
    side = 3 * 8
    assert record.up == 5 * (2 * (4096 + 640) + side)
    for count, dtype in (
        (256, torch.uint8),
        (257, torch.uint16),
        (65536, torch.uint16),
        (65537, torch.int32),
    ):
        found = ranking(torch.arange(count).flip(0).float())
        assert found.dtype == dtype
        assert found[0].item() == count - 1


def test_the_scores_stay_the_first_ones_in_another_order():
    first = weights(first_model(network(), FRL(), 0))
    done = federate(network(), FRL(), rounds=5, local=SGD, test=False)
    torch.testing.assert_close(weights(done.model).sort().values, first.sort().values, rtol=1e-12, atol=1e-15)
    assert not torch.equal(weights(done.model), first)


class Loud(Attack):
    """Sends numbers that are no ranking, as large as the type holds."""

    def replies(self, honest, generator):
        for name, ranks in honest.reply.sent.items():
            honest.reply.sent[name] = torch.full_like(ranks, 255)
        return [honest]


def test_a_client_has_one_vote_whatever_it_sends():
    """No weight's sum of places is moved by more than a layer's size, so most of the model stays."""
    names = digits().clients
    runs = [
        federate(digits(split="iid"), FRL(), rounds=1, local=SGD, attacks=attacks, test=False).model
        for attacks in ({}, {names[0]: Loud()}, {names[0]: RankReverse()})
    ]
    clean = runs[0][1].weight != 0
    for model in runs[1:]:
        shared = float(((model[1].weight != 0) == clean).double().mean())
        assert 0.8 < shared < 1


def test_one_client_alone_gets_the_network_it_asked_for():
    on = digits(client_count=1, train=100, split="iid", network="mlp")
    done, seen = run(FRL(), 1, on=on, local=SGD)
    for layer in ("1", "3"):
        name = f"{layer}.parametrizations.weight.original"
        ranks = seen[0].round.sent[f"ranks/{name}"][0].long()
        scores = done.model.get_parameter(name).flatten()
        assert torch.equal(scores.argsort(), ranks)


def test_it_learns():
    on = digits(client_count=5, train=1000, split="iid", network="mlp")
    done = federate(
        on, FRL(), rounds=8, local=Local(steps=10, batch_size=32, learning_rate=0.4, momentum=0.9)
    )
    scores = [one["score"] for one in done.test["last"].values()]
    assert sum(scores) / 5 > 0.75


def test_a_plain_model_can_be_made_of_it():
    done = federate(network(), FRL(), rounds=1, local=SGD, test=False).model
    images = network().examples("client-00", "test")[0]
    before = done(images)
    for layer in (done[1], done[3]):
        parametrize.remove_parametrizations(layer, "weight")
    torch.testing.assert_close(done(images), before)
    assert set(done.state_dict()) == {"1.weight", "3.weight"}


def test_convolutions_and_what_else_there_is():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(144, 3))
    torch.manual_seed(0)
    FRL().adapt(model)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [
        "0.parametrizations.weight.original",
        "3.parametrizations.weight.original",
    ]
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 3)


def test_both_ways_of_training_agree():
    """The same rankings: a last bit of a score decides only between scores that are level."""
    both = [
        federate(network(), FRL(), rounds=2, local=SGD, batching=way, test=False).model
        for way in ("loop", "batched")
    ]
    torch.testing.assert_close(weights(both[0]), weights(both[1]), rtol=1e-6, atol=1e-12)


def test_models_and_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="kept is 0"):
        FRL(kept=0)
    with pytest.raises(ValueError, match="no Linear or convolution"):
        FRL().adapt(nn.Sequential(nn.Embedding(3, 3)))
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match="'0' and '1' share one weight"):
        FRL().adapt(tied)
