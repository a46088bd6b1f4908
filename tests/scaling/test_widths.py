"""Coordinate and transfer checks on a small network of real digits."""

import pytest
import torch
from torch import nn

from equipoise.problems.data import digits
from equipoise.scaling.coordinatecheck import coordinate_check
from equipoise.scaling.transfercheck import transfer_check

WIDTHS = (32, 64, 128, 256, 512)


def network(width):
    return nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


@pytest.fixture(scope="module")
def batches():
    images, labels = digits()
    x, y = torch.from_numpy(images).float() / 16, torch.from_numpy(labels)
    return list(zip(x[:512].split(64), y[:512].split(64), strict=True))


def test_logits_grow_less_with_width_under_mup(batches):
    """Yang et al. 2021, figure 5: with Adam the logits' change grows with width in the standard way."""
    standard = coordinate_check(network, WIDTHS, batches, lr=0.01, seeds=2)
    planned = coordinate_check(network, WIDTHS, batches, plan_base=32, lr=0.01, seeds=2)
    after = [phase for phase in standard.slopes if phase != "start"][-1]
    name = list(standard[after])[-1]
    assert planned[after][name].slope < standard[after][name].slope
    assert name in str(planned)


def test_rates_are_swept_under_both(batches):
    found = transfer_check(network, (32, 128), batches, rates=(2**-9, 2**-7, 2**-5), steps=12)
    assert set(found["muP"].best) == {32, 128}
    assert found["muP"].transferred >= found["muP"].own
    assert "muP" in str(found)


def test_what_cannot_be_swept_is_refused(batches):
    with pytest.raises(ValueError, match="two or more that differ"):
        transfer_check(network, (32, 64), batches, rates=(0.1,))
    with pytest.raises(ValueError, match="width"):
        coordinate_check(network, (32,), batches)
