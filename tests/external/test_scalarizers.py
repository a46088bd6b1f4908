"""Our scalarisers against TorchJD's: value and weights on a thousand sets of losses each.

All in float64, so that the two differ by rounding alone: 1e-12 of the value and of the largest weight, but
for FAMO, where TorchJD adds 1e-8 to every loss.
"""

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
import torchjd.scalarization as peers
from torch import Tensor

from equipoise import scalarization
from equipoise.core.rule import Scalarizer
from equipoise.core.step import Step
from equipoise.testing.ask import weigh

COUNT = 1000
SCALES = (1e-6, 1e-3, 1.0, 1e3, 1e6)
EXACT = 1e-12


def draws(count: int = COUNT, scales: Sequence[float] = SCALES) -> Iterator[tuple[Tensor, torch.Generator]]:
    """Positive losses (m,) with m from 1 to 8, a factor of up to e^6 apart, and a generator for the rest."""
    for number in range(count):
        drawn = torch.Generator().manual_seed(number)
        losses = torch.randn(1 + number % 8, generator=drawn, dtype=torch.float64).clamp(-3, 3).exp()
        yield losses * scales[number % len(scales)], drawn


def like(losses: Tensor, drawn: torch.Generator) -> Tensor:  # (m,) -> (m,)
    return torch.randn(len(losses), generator=drawn, dtype=torch.float64)


def named(losses: Tensor) -> list[str]:
    return [str(i) for i in range(len(losses))]


def same(
    mine: Scalarizer,
    theirs: Callable[[Tensor], Tensor],
    losses: Tensor,
    preference: Tensor | None = None,
    allowed: float = EXACT,
) -> None:
    """The same value and the same derivative by each loss."""
    names = named(losses)
    value = mine.apply_to(losses, preference=preference, names=names).detach()
    leaf = losses.clone().requires_grad_()
    other = theirs(leaf)
    (weights,) = torch.autograd.grad(other, leaf)
    found = weigh(mine, losses, preference=preference, names=names)
    torch.testing.assert_close(value, other.detach(), rtol=allowed, atol=allowed * float(losses.max()))
    torch.testing.assert_close(found, weights, rtol=0, atol=allowed * float(weights.abs().max()))


def test_linear_is_the_mean_and_constant_weights():
    for losses, drawn in draws():
        same(scalarization.Linear(), peers.Mean(), losses)
        preference = like(losses, drawn).softmax(0)
        same(scalarization.Linear(), peers.Constant(preference), losses, preference)


def test_gls_is_the_geometric_mean():
    for losses, _ in draws():
        same(scalarization.GLS(), peers.GeometricMean(), losses)


def test_smooth_tchebycheff_is_stch():
    for losses, drawn in draws():
        preference = like(losses, drawn).softmax(0)
        reference = losses * like(losses, drawn).sigmoid()
        temperature = float(losses.mean()) * 10.0 ** float(like(losses, drawn)[0].clamp(-2, 2))
        mine = scalarization.SmoothTchebycheff(
            temperature=temperature, reference=dict(zip(named(losses), reference.tolist(), strict=True))
        )
        same(mine, peers.STCH(temperature, preference, reference), losses, preference)
        mine = scalarization.SmoothTchebycheff(temperature=temperature)
        same(mine, peers.STCH(temperature), losses)


@pytest.mark.parametrize(
    ("mine", "theirs", "key", "learned"),
    [
        (scalarization.UncertaintyWeighting, peers.UW, "log_variances", "log_var"),
        (scalarization.IMTLL, peers.IMTLL, "log_scales", "log_scale"),
    ],
)
def test_learned_scales_are_those_of_uw_and_imtll(mine, theirs, key, learned):
    for losses, drawn in draws():
        rule, other = mine(objectives=named(losses)).double(), theirs(len(losses)).double()
        state = like(losses, drawn)
        with torch.no_grad():
            getattr(rule, key).copy_(state)
            getattr(other, learned).copy_(state)
        same(rule, other, losses)


def test_rlw_is_random_with_the_same_draws():
    """Both take the softmax of normal draws; TorchJD's come from the global generator."""
    for number, (losses, _) in enumerate(draws()):
        rule = scalarization.RLW(generator=torch.Generator().manual_seed(number))

        def theirs(values: Tensor, rule: scalarization.RLW = rule) -> Tensor:
            torch.set_rng_state(rule.draws().get_state())
            return peers.Random()(values)

        same(rule, theirs, losses)


def test_dwa_over_epochs():
    """A hundred runs of five epochs of two batches."""
    for start, drawn in draws(COUNT // 10):
        rule, other, names = scalarization.DWA(), peers.DWA(), tuple(named(start))
        for batch in range(10):
            losses = start * (0.2 * like(start, drawn) - 0.1 * batch).exp()
            same(rule, _peek(other), losses)
            other(losses)
            last = batch % 2 == 1
            rule.update(Step(names, losses, None), epoch_ended=last)
            if last:
                other.step()


def _peek(dwa: peers.DWA) -> Callable[[Tensor], Tensor]:
    """TorchJD's DWA counts a batch when it is called; this asks for its value without."""
    return lambda values: (dwa._compute_weights(values) * values).sum()


def test_famo_over_steps():
    """A hundred runs of ten steps; TorchJD's 1e-8 beside losses of 0.02 and more, at scale 1 and above.

    The logits drift apart by Adam's first steps, which depend on the signs of tiny differences: none are
    tiny here, and 1e-5 is what ten steps make of 1e-8 over 0.02.
    """
    for start, drawn in draws(COUNT // 10, scales=(1.0, 1e3)):
        rule = scalarization.FAMO(decay=0.01)
        other = peers.FAMO(len(start), lr=0.025, weight_decay=0.01).double()
        names = tuple(named(start))
        for step in range(10):
            losses = start * (0.2 * like(start, drawn) - 0.1 * step).exp()
            after = losses * (0.2 * like(start, drawn) - 0.1).exp()
            same(rule, other, losses, allowed=1e-5)
            rule.update(Step(names, losses, None), dict(zip(names, after, strict=True)))
            other.update(after)
