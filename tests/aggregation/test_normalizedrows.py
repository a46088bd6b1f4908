import pytest
import torch
from tests.core.ranks import Net, losses_of

import equipoise
from equipoise.aggregation import MGDA, Mean, NormalizedRows
from equipoise.core.bundle import Bundle


def test_rows_keep_their_directions_and_get_the_mean_length():
    rows = torch.tensor([[3.0, 4.0], [0.0, 1.0], [-6.0, 8.0]], dtype=torch.float64)
    found = NormalizedRows()(rows)
    assert found.norm(dim=1).tolist() == pytest.approx([16 / 3] * 3)
    torch.testing.assert_close(found / found.norm(dim=1)[:, None], rows / rows.norm(dim=1)[:, None])
    assert NormalizedRows(length="one")(rows).norm(dim=1).tolist() == pytest.approx([1.0] * 3)


def test_a_zero_row_stays_zero_and_does_not_count_in_the_mean():
    rows = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 4.0]])
    assert NormalizedRows()(rows).tolist() == [[3.0, 0.0], [0.0, 0.0], [0.0, 3.0]]
    assert not NormalizedRows(length="one")(torch.zeros(2, 3)).any()


def test_the_scale_of_one_loss_matters_no_more():
    """What gradient normalisation is for: factors on single losses do not turn the step."""
    steps = []
    for factor in (1.0, 1000.0):
        net = Net()
        losses = losses_of(net, 0, 0, 1)
        losses["number"] = factor * losses["number"]
        equipoise.backward(losses, Mean(), transforms=NormalizedRows(length="one"), parameters=net)
        assert net.wide.weight.grad is not None
        steps.append(net.wide.weight.grad.clone())
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-4, atol=1e-6)


def test_mgda_behind_it_no_longer_follows_the_shortest():
    """Min-norm weights of orthogonal rows are in inverse proportion to the squared lengths, then equal."""
    rows = torch.tensor([[10.0, 0.0], [0.0, 1.0]], dtype=torch.float64)

    def weights(rows: torch.Tensor) -> torch.Tensor:
        return MGDA(normalize="none")(Bundle(["a", "b"], {"w": rows}).gramian())

    assert weights(rows).tolist() == pytest.approx([1 / 101, 100 / 101])
    assert weights(NormalizedRows()(rows)).tolist() == pytest.approx([0.5, 0.5])


def test_each_parameter_has_a_common_length_of_its_own():
    net = Net()
    rows = equipoise.gradients(losses_of(net, 0, 0, 1), net)
    step = equipoise.backward(losses_of(net, 0, 0, 1), Mean(), transforms=NormalizedRows(), parameters=net)
    shared = {name: block for name, block in rows.blocks.items() if "right" not in name}
    normed = {name: NormalizedRows()(block.flatten(1)).reshape(block.shape) for name, block in shared.items()}
    update = Bundle(rows.names, normed).combine([1 / 3] * 3)
    assert step.names == rows.names
    for name, parameter in net.named_parameters():
        if name in update:
            torch.testing.assert_close(parameter.grad, update[name], rtol=1e-4, atol=1e-6)


def test_an_unknown_length_is_refused():
    with pytest.raises(ValueError, match="length is 'max'"):
        NormalizedRows(length="max")
