import pytest
import torch
from hypothesis import given
from tests.core.gramians import directions

from equipoise.aggregation import AGEM, GEM, DualProj

H = torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)


def drawn(m, seed):
    return torch.randn(m, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_hand_example():
    """(2, 0) off (-1, 1): (2, 0) + (-1, 1)."""
    assert (AGEM()(H @ H.T) @ H).tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("seed", range(10))
def test_equation_11_on_the_vectors(seed):
    """Chaudhry et al. 2019, equation 11: g - (g.r / r.r) r where g.r < 0, else g."""
    rows = drawn(4, seed)
    task, memory = rows[0], rows[1:].mean(0)
    wanted = task - min(0.0, float(task @ memory)) / (memory @ memory) * memory
    torch.testing.assert_close(AGEM()(rows @ rows.T) @ rows, wanted)


@given(directions())
def test_the_mean_of_the_memory_is_not_hurt_and_the_step_is_no_longer(rows):
    rows = rows / max(float(rows.norm(dim=1).max()), 1e-300)
    update = AGEM()(rows @ rows.T) @ rows
    if len(rows) > 1:
        assert float(rows[1:].mean(0) @ update) >= -1e-9
    assert float(update.norm()) <= float(rows[0].norm()) + 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_with_one_memory_it_is_gem_without_margin_and_dualproj(seed):
    gramian = (rows := drawn(2, seed)) @ rows.T
    found = AGEM()(gramian)
    torch.testing.assert_close(found, GEM(margin=0.0)(gramian))
    on_first = torch.tensor([1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(found @ rows, DualProj()(gramian, preference=on_first) @ rows)


def test_a_single_past_task_may_be_hurt():
    """What GEM keeps and A-GEM does not: the mean of the memory agrees, one task of it conflicts."""
    rows = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [2.0, 1.0]], dtype=torch.float64)
    assert (AGEM()(rows @ rows.T) @ rows).tolist() == [1.0, 0.0]
    assert float(rows[1] @ rows[0]) < 0


def test_a_memory_that_cancels_out_has_no_say():
    rows = torch.tensor([[1.0, 0.1], [-0.3, 0.7], [0.3, -0.7]], dtype=torch.float64)
    assert AGEM()(rows @ rows.T).tolist() == [1.0, 0.0, 0.0]


def test_the_task_goes_with_its_name():
    rows = drawn(3, 3)
    gramian = rows @ rows.T
    order = [2, 0, 1]
    first = AGEM(primary="c")(gramian, names=("a", "b", "c"))
    second = AGEM()(gramian[order][:, order], names=("c", "a", "b"))
    torch.testing.assert_close(first[order], second)


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="no objective is called 'new'; nearest: now"):
        AGEM(primary="new")(H @ H.T, names=("now", "memory"))
