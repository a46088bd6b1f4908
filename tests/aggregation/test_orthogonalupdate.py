import pytest
import torch
from hypothesis import given
from tests.core.gramians import directions

from equipoise.aggregation import OrthogonalUpdate

H = torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)


def drawn(m, seed):
    return torch.randn(m, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_hand_example():
    """g_b less its part along g_f is (0, 1): the update is (2, 0) + eta (0, 1)."""
    for eta in (0.0, 0.3, 1.0, 2.0):
        update = OrthogonalUpdate(eta=eta)(H @ H.T) @ H
        assert update.tolist() == pytest.approx([2.0, eta])


@pytest.mark.parametrize("eta", [0.2, 1.0])
def test_it_is_the_update_of_the_authors_code(eta):
    """`orthogonal_true_g_update`: (1 - c) g_f + eta g_b, c = <g_f, eta g_b> / |g_f|^2."""
    forward, backward = drawn(2, 0)
    share = forward @ (eta * backward) / (forward @ forward)
    rows = torch.stack([forward, backward])
    wanted = (1 - share) * forward + eta * backward
    torch.testing.assert_close(OrthogonalUpdate(eta=eta)(rows @ rows.T) @ rows, wanted)


@given(directions())
def test_the_primary_gains_what_it_gains_alone(rows):
    """Mao et al. 2024, theorem 1: to first order nothing interferes with the forward gradient."""
    rows = rows / max(float(rows.norm(dim=1).max()), 1e-300)
    for place, name in enumerate(map(str, range(len(rows)))):
        update = OrthogonalUpdate(primary=name)(rows @ rows.T) @ rows
        alone = float(rows[place] @ rows[place])
        assert float(rows[place] @ update) == pytest.approx(alone, abs=1e-9)


def test_orthogonal_directions_are_added_and_parallel_ones_vanish():
    assert OrthogonalUpdate()(torch.diag(torch.tensor([4.0, 1.0, 9.0]))).tolist() == [1.0, 1.0, 1.0]
    rows = torch.tensor([[1.0, 2.0], [-3.0, -6.0]], dtype=torch.float64)
    torch.testing.assert_close(OrthogonalUpdate()(rows @ rows.T) @ rows, rows[0])


def test_the_primary_goes_with_its_name():
    rows = drawn(3, 1)
    gramian = rows @ rows.T
    first = OrthogonalUpdate(primary="b")(gramian, names=("a", "b", "c")) @ rows
    order = [1, 2, 0]
    second = OrthogonalUpdate()(gramian[order][:, order], names=("b", "c", "a")) @ rows[order]
    torch.testing.assert_close(first, second)


def test_a_zero_primary_takes_nothing_from_the_others():
    rows = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    assert (OrthogonalUpdate(eta=0.5)(rows @ rows.T) @ rows).tolist() == [0.5, 1.0]


def test_refusals():
    with pytest.raises(ValueError, match="eta must be 0 or more, got -1"):
        OrthogonalUpdate(eta=-1.0)
    with pytest.raises(ValueError, match="no objective is called 'forwards'; nearest: forward"):
        OrthogonalUpdate(primary="forwards")(H @ H.T, names=("forward", "backward"))
