"""The transfer check on bytes of English, and what it reads off a table of losses."""

import numpy as np
import pytest
import torch
from tests.scaling.test_coordinatecheck import ByteNetwork, byte_batches

from equipoise.scaling.transfercheck import Sweep, TransferCheck, transfer_check


@pytest.fixture(scope="module")
def check(data_folder):
    rates = [2.0**k for k in (-9, -8, -7, -6, -5)]
    return transfer_check(ByteNetwork, (32, 256), byte_batches(data_folder, 60), rates=rates, steps=60)


def test_mup_keeps_the_best_rate_and_the_standard_one_does_not(check, vectors_folder):
    """The vector: the narrowest's optimum serves the widest better under muP; the standard one moves down."""
    mup, standard = check["muP"], check["standard"]
    assert check.gain > 0
    assert mup.penalty < standard.penalty
    assert standard.octaves <= -1
    assert abs(mup.octaves) <= 1


def test_parametrisations_agree_at_base_but_for_initialisation(check):
    assert check["muP"].losses.shape == check["standard"].losses.shape == (1, 2, 5)
    np.testing.assert_allclose(check["muP"].means[0], check["standard"].means[0], rtol=0.1)


def test_numbers_of_a_sweep():
    losses = np.array([[[3.0, 1.0, 2.0], [1.0, 2.0, np.inf]], [[3.0, 1.0, 2.0], [1.5, 2.0, 2.0]]])
    sweep = Sweep((8, 64), (0.1, 0.2, 0.4), losses)
    assert sweep.best == {8: 0.2, 64: 0.1}
    assert (sweep.octaves, sweep.transferred, sweep.own, sweep.penalty) == (-1, 2, 1.25, 0.75)
    assert sweep.noise == pytest.approx(np.std([1.0, 1.5], ddof=1))
    assert sweep.at_edge == [64]
    text = str(TransferCheck({"muP": sweep, "standard": sweep}, steps=5, seeds=2))
    assert "width 64 with the best lr of 8, 0.2: 2.0000; its own best, 0.1: 1.2500, seed sd 0.3536" in text
    assert "best at an end of the sweep at width 64" in text
    assert "1.0000*" in text


def test_table(check):
    assert "muP: width 256 with the best lr of 32" in str(check)
    assert "one seed, so noise is unknown" in str(check)


def test_held_pairs_are_looked_at_in_evaluation(data_folder):
    class Watched(ByteNetwork):
        seen = ()

        def forward(self, x):
            Watched.seen = (*Watched.seen, (self.training, torch.is_grad_enabled()))
            return super().forward(x)

    batches, held = byte_batches(data_folder, 1, 16), byte_batches(data_folder, 2, 16, seed=1)
    transfer_check(Watched, (8, 16), batches, rates=(1e-3, 1e20), steps=2, held=held, optimizer="sgd")
    assert Watched.seen[:4] == ((True, True),) * 2 + ((False, False),) * 2


def test_broken_training_counts_as_infinite(data_folder):
    batches = byte_batches(data_folder, 1, 16)
    found = transfer_check(ByteNetwork, (8, 16), batches, rates=(1e-3, 1e20), steps=4, optimizer="sgd")
    assert np.isinf(found["standard"].means[:, 1]).all()
    assert found["standard"].best == {8: 1e-3, 16: 1e-3}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rates": [0.1]}, r"rates are \[0\.1\]"),
        ({"rates": [0.1, -1.0]}, r"rates\[0\] is -1"),
        ({"widths": (8,)}, r"widths are \[8\]"),
        ({"held": []}, "held is empty"),
        ({"seeds": 0}, "seeds is 0"),
        ({"weight_decay": -1.0}, "weight_decay is -1"),
    ],
)
def test_errors(changed, message):
    batch = (torch.zeros(2, 8, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=message):
        transfer_check(ByteNetwork, **{"widths": (8, 16), "batches": [batch], **changed})
