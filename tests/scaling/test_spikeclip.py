"""SpikeClip: what is cut, what begins anew, and that nothing else changes."""

import json

import pytest
import torch
from torch import nn

from equipoise.scaling import SpikeClip, cut_spikes


def made(**options):
    parameter = nn.Parameter(torch.ones(3))
    adam = torch.optim.Adam([parameter], lr=0.1)
    return parameter, adam, SpikeClip(adam, **options)


def stepped(parameter, adam, gradient):
    parameter.grad = torch.as_tensor(gradient, dtype=torch.float32)
    adam.step()


def test_the_cut_is_that_of_the_authors(vectors_folder):
    case = json.loads((vectors_folder / "scaling.json").read_text(encoding="utf-8"))["spam_clip"]
    cut = cut_spikes(torch.tensor(case["g"]), torch.tensor(case["v"]), case["theta"])
    torch.testing.assert_close(cut, torch.tensor(case["out"]))
    clip = SpikeClip(torch.optim.Adam([nn.Parameter(torch.ones(1))]))
    defaults = case["defaults"]
    assert (clip.theta, clip.reset, clip.warmup, clip.settle) == (
        defaults["theta"],
        defaults["DeltaT"],
        defaults["warmup_steps"],
        defaults["grad_accu_steps"],
    )


def test_what_was_never_seen_is_not_cut():
    assert cut_spikes(torch.tensor([3.0]), torch.zeros(1)).item() == 3.0


def test_a_spike_moves_the_weights_no_further_than_what_adam_has_seen():
    moved = {}
    for theta in (5000.0, 1e30):
        parameter, adam, clip = made(theta=theta, settle=5)
        for _ in range(50):
            stepped(parameter, adam, [1e-3, -1e-3, 1e-3])
        before = adam.state[parameter]["exp_avg"].clone()
        stepped(parameter, adam, [1e3, -1e-3, 1e-3])
        moved[theta] = float((adam.state[parameter]["exp_avg"] - before).abs().max())
        assert parameter.grad.tolist()[0] == 1e3
        assert clip.clipped == (1 if theta == 5000.0 else 0)
    assert moved[5000.0] < 1e-3 * moved[1e30]


def test_without_spikes_or_resets_it_is_adam():
    parameter, adam, _ = made(reset=0)
    plain = nn.Parameter(torch.ones(3))
    other = torch.optim.Adam([plain], lr=0.1)
    draws = torch.Generator().manual_seed(0)
    for _ in range(30):
        gradient = torch.randn(3, generator=draws)
        stepped(parameter, adam, gradient)
        stepped(plain, other, gradient)
    assert torch.equal(parameter, plain)


def test_moments_and_the_count_of_steps_begin_anew_together():
    """Right after a reset the first moment is the gradient, corrected: the step is one learning rate long."""
    parameter, adam, clip = made(reset=10, warmup=0)
    for _ in range(10):
        stepped(parameter, adam, [1.0, 1.0, 1.0])
    before = parameter.detach().clone()
    stepped(parameter, adam, [0.5, 0.5, 0.5])
    assert clip.resets == 1
    assert int(adam.state[parameter]["step"]) == 1
    torch.testing.assert_close(before - parameter.detach(), torch.full((3,), 0.1), rtol=1e-5, atol=1e-6)


def test_the_learning_rate_rises_anew_after_a_reset_and_is_given_back():
    parameter, adam, _ = made(reset=10, warmup=4)
    lengths = []
    for _ in range(16):
        before = parameter.detach().clone()
        stepped(parameter, adam, [1.0, 1.0, 1.0])
        lengths.append(float((before - parameter.detach())[0]))
        assert adam.param_groups[0]["lr"] == 0.1
    assert lengths[0] == pytest.approx(0.1, rel=1e-4)
    assert lengths[10] == pytest.approx(0.1 * (1 - 2**-0.5) / 2, rel=1e-3)
    assert lengths[13] == pytest.approx(0.1, rel=1e-3)


def test_it_is_resumed_and_taken_off():
    parameter, adam, clip = made(reset=10)
    for _ in range(12):
        stepped(parameter, adam, [1.0, 1.0, 1.0])
    again = made(reset=10)[2]
    again.load_state_dict(clip.state_dict())
    assert (again.steps, again.resets) == (12, 1)
    clip.remove()
    stepped(parameter, adam, [1.0, 1.0, 1.0])
    assert clip.steps == 12


def test_an_optimizer_without_second_moments_is_refused():
    parameter = nn.Parameter(torch.ones(1))
    sgd = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    SpikeClip(sgd, settle=0)
    parameter.grad = torch.ones(1)
    sgd.step()
    with pytest.raises(ValueError, match="SGD keeps no exp_avg_sq"):
        sgd.step()
