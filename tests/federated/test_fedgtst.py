"""FedGTST draws gradient lengths to a guide; our reading, held against its own formula."""

import pytest
import torch
from torch.func import functional_call

from equipoise.federated import FedAvg, FedGTST, Local, federate
from equipoise.problems import federation

WHOLE = Local(steps=1, batch_size=None, learning_rate=0.1)


@pytest.fixture(scope="module")
def digits():
    found = federation("digits-clients", client_count=4, dtype="float64")
    found.prepare()
    return found


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_second_round_descends_the_loss_and_the_distance_from_the_guide(digits):
    xi, start = 0.05, federate(digits, FedGTST(xi=0.05), rounds=1, batching="loop", local=WHOLE).model
    first = federate(digits, FedAvg(), rounds=1, batching="loop", local=WHOLE, test=False).model
    assert torch.equal(weights(start), weights(first)), "there is no guide in the first round"
    begun = federate(
        digits, FedAvg(), rounds=1, batching="loop", local=Local(learning_rate=1e-30), test=False
    ).model

    def loss(parameters, client):
        inputs, targets = digits.examples(client, "train")
        logits = functional_call(first, parameters, (inputs,))
        return torch.nn.functional.cross_entropy(logits, targets)

    def length(parameters, client, graph=False):
        found = torch.autograd.grad(loss(parameters, client), list(parameters.values()), create_graph=graph)
        return torch.cat([part.flatten() for part in found]).norm()

    before = dict(begun.named_parameters())
    guide = max(float(length(before, client)) for client in digits.clients)
    samples = torch.tensor([float(len(digits.examples(c, "train")[0])) for c in digits.clients])
    shares, expected = samples / samples.sum(), torch.zeros_like(weights(first))
    for share, client in zip(shares.double(), digits.clients, strict=True):
        at = {name: p.detach().clone().requires_grad_() for name, p in first.named_parameters()}
        total = loss(at, client) + xi * (length(at, client, graph=True) - guide) ** 2
        step = torch.autograd.grad(total, list(at.values()))
        expected += share * (weights(first) - 0.1 * torch.cat([part.flatten() for part in step]))
    second = federate(digits, FedGTST(xi=xi), rounds=2, batching="loop", local=WHOLE, test=False).model
    torch.testing.assert_close(weights(second), expected, rtol=1e-6, atol=1e-9)


def test_without_xi_it_is_fedavg_and_with_it_the_lengths_are_larger(digits):
    runs = {
        name: federate(
            digits, system, rounds=8, batching="loop", local=Local(steps=5, batch_size=None), test=False
        )
        for name, system in {"avg": FedAvg(), "none": FedGTST(xi=0), "some": FedGTST(xi=0.05)}.items()
    }
    assert torch.equal(weights(runs["avg"].model), weights(runs["none"].model))
    lengths = {name: runs[name].history[-1].notes["mean_norm"] for name in ("none", "some")}
    assert lengths["some"] > lengths["none"]


def test_both_ways_of_training_agree(digits):
    both = [
        weights(federate(digits, FedGTST(), rounds=2, batching=way, test=False).model)
        for way in ("loop", "batched")
    ]
    torch.testing.assert_close(both[0], both[1], rtol=1e-6, atol=1e-12)


def test_a_gradient_of_zero_has_a_finite_derivative():
    from equipoise.federated.clientalgorithm import View

    class Flat:
        def __call__(self, parameters):
            return (parameters["w"] * 0).sum()

    one = torch.tensor(1.0)
    view = View({}, {}, {"guide": one, "ready": one}, 0.1, one, one)
    w = torch.ones(3, requires_grad=True)
    total, _ = FedGTST().client.objective(Flat(), {"w": w}, view)
    (found,) = torch.autograd.grad(total, w)
    assert bool(found.isfinite().all())


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="xi is -1"):
        FedGTST(xi=-1)
    with pytest.raises(ValueError, match="guide is 'median'"):
        FedGTST(guide="median")
