"""FedSR: a noisy representation, its two regularisers, and what stays with a client."""

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from equipoise.federated import FedSR, Local, federate
from equipoise.federated.fedsr import NoisyClassifier
from equipoise.problems import federation


@pytest.fixture(scope="module")
def digits():
    found = federation("digits-clients", client_count=3, dtype="float64")
    found.prepare()
    return found


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_information_is_the_divergence_from_the_prior_of_the_class():
    torch.manual_seed(0)
    head = NoisyClassifier(6, 4, 3).double()
    for p in (head.prior_mean, head.prior_scale):
        nn.init.normal_(p)
    nn.init.constant_(head.scale, 1.7)
    features, labels = torch.randn(5, 6, dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0])
    head.noise = torch.randn(5, 4, dtype=torch.float64)
    head(features)
    mean, scale, z = head.seen
    torch.testing.assert_close(z, mean + scale * head.noise)
    prior = Normal(head.prior_mean[labels], nn.functional.softplus(head.prior_scale[labels]))
    expected = kl_divergence(Independent(Normal(1.7 * mean, 1.7 * scale), 1), Independent(prior, 1))
    torch.testing.assert_close(head.information(labels), expected)


def test_a_step_descends_loss_length_and_information(digits):
    system, model = FedSR(length=0.1, information=0.05), None
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = system.adapt(digits.model())
    batch = tuple(part[:7] for part in digits.examples("client-00", "train"))
    noise = system.client.draw(dict(model.named_parameters()), 7, torch.Generator().manual_seed(1))["noise"]

    from equipoise.federated.clientalgorithm import View
    from equipoise.federated.engine.placed import BatchLoss, Placed

    one = torch.tensor(1.0)
    loss = BatchLoss(digits, Placed(model), batch)
    view = View({}, {}, {}, 0.1, one, one, {"noise": noise})
    total, data = system.client.objective(loss, dict(model.named_parameters()), view)
    head = next(m for m in model.modules() if isinstance(m, NoisyClassifier))
    assert head.noise is None, "what a step leaves behind would reach the next evaluation"
    assert head.seen is None
    head.noise = noise
    expected = nn.functional.cross_entropy(model(batch[0]), batch[1])
    length, information = head.seen[2].norm(dim=1).mean(), head.information(batch[1]).mean()
    torch.testing.assert_close(data, expected)
    torch.testing.assert_close(total, expected + 0.1 * length + 0.05 * information)


def test_priors_stay_with_the_client_and_the_rest_is_averaged(digits, tmp_path):
    from equipoise.core.tensorfile import TensorFile

    finished = federate(
        digits, FedSR(), rounds=2, local=Local(steps=3, batch_size=None), out=tmp_path, test=False
    )
    head = next(m for m in finished.model.modules() if isinstance(m, NoisyClassifier))
    assert not bool(head.prior_mean.any()), "the server's prior never moves"
    kept = TensorFile(tmp_path / "state.safetensors")
    name = next(name for name in kept if name.startswith("kept/") and name.endswith("prior_mean"))
    assert bool(kept[name].abs().sum((1, 2)).all()), "every client has moved its own"


def test_both_ways_of_training_agree(digits):
    local = Local(batch_size=16)
    both = [
        weights(federate(digits, FedSR(), rounds=2, local=local, batching=way, test=False).model)
        for way in ("loop", "batched")
    ]
    torch.testing.assert_close(both[0], both[1], rtol=1e-6, atol=1e-12)


def test_a_model_without_a_linear_end_is_refused():
    with pytest.raises(ValueError, match="'1' is a Conv2d, not a Linear"):
        FedSR().adapt(nn.Sequential(nn.Linear(2, 2), nn.Conv2d(1, 1, 1)))
    with pytest.raises(ValueError, match="length is -1"):
        FedSR(length=-1)
