"""FedIIR aligns the gradients of the classifier with a moving mean of them."""

import pytest
import torch
from torch.func import functional_call

from equipoise.federated import FedAvg, FedIIR, Local, federate
from equipoise.problems import federation

WHOLE = Local(steps=1, batch_size=None, learning_rate=0.1)


@pytest.fixture(scope="module")
def digits():
    found = federation("digits-clients", client_count=3, dtype="float64")
    found.prepare()
    return found


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def start(digits):
    """The first model, by a step that is too short to be one."""
    return federate(
        digits, FedAvg(), rounds=1, batching="loop", local=Local(learning_rate=1e-30), test=False
    ).model


def loss(digits, model, parameters, client):
    inputs, targets = digits.examples(client, "train")
    return torch.nn.functional.cross_entropy(functional_call(model, parameters, (inputs,)), targets)


def head_gradient(digits, model, parameters, client, graph=False):
    own = [p for name, p in parameters.items() if name in list(parameters)[-2:]]
    return torch.autograd.grad(loss(digits, model, parameters, client), own, create_graph=graph)


def stepped(digits, model, guide, penalty):
    """One step of every client on the loss and the penalty, averaged by examples."""
    counts = [len(digits.examples(client, "train")[0]) for client in digits.clients]
    total = torch.zeros_like(weights(model))
    for count, client in zip(counts, digits.clients, strict=True):
        at = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
        found = head_gradient(digits, model, at, client, graph=True)
        apart = sum(((g - m) ** 2).sum() for g, m in zip(found, guide, strict=True))
        value = loss(digits, model, at, client) + penalty * apart
        step = torch.cat([part.flatten() for part in torch.autograd.grad(value, list(at.values()))])
        total += count / sum(counts) * (weights(model) - 0.1 * step)
    return total


def test_two_rounds_are_those_of_the_formula(digits):
    penalty, begun = 0.3, start(digits)
    nothing = [torch.zeros_like(p) for p in list(begun.parameters())[-2:]]
    one = federate(digits, FedIIR(penalty=penalty), rounds=1, batching="loop", local=WHOLE, test=False).model
    torch.testing.assert_close(weights(one), stepped(digits, begun, nothing, penalty), rtol=1e-7, atol=1e-10)
    counts = torch.tensor([float(len(digits.examples(c, "train")[0])) for c in digits.clients])
    each = [head_gradient(digits, begun, dict(begun.named_parameters()), c) for c in digits.clients]
    guide = [
        0.05 * sum(share * part for share, part in zip(counts / counts.sum(), parts, strict=True))
        for parts in zip(*each, strict=True)
    ]
    two = federate(digits, FedIIR(penalty=penalty), rounds=2, batching="loop", local=WHOLE, test=False).model
    torch.testing.assert_close(weights(two), stepped(digits, one, guide, penalty), rtol=1e-6, atol=1e-9)


def test_without_penalty_it_is_fedavg(digits):
    same = [
        weights(federate(digits, system, rounds=3, batching="loop", test=False).model)
        for system in (FedAvg(), FedIIR(penalty=0.0))
    ]
    torch.testing.assert_close(same[0], same[1], rtol=1e-9, atol=1e-12)


def test_both_ways_of_training_agree(digits):
    both = [
        weights(federate(digits, FedIIR(penalty=0.1), rounds=2, batching=way, test=False).model)
        for way in ("loop", "batched")
    ]
    torch.testing.assert_close(both[0], both[1], rtol=1e-6, atol=1e-12)


def test_what_is_out_of_range_is_refused(digits):
    with pytest.raises(ValueError, match="penalty is -1"):
        FedIIR(penalty=-1)
    with pytest.raises(ValueError, match="no parameters in 'tail'"):
        federate(digits, FedIIR(head="tail"), rounds=1)
