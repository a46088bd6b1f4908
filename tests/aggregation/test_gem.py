import pytest
import torch
from hypothesis import given
from scipy.optimize import nnls
from tests.core.gramians import directions, spoilt

from equipoise.aggregation import GEM, DualProj

H = torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)


def oracle(rows, margin):
    """g + sum_k v_k g_k, v >= margin, as non-negative least squares of v - margin."""
    target = rows[0] + margin * rows[1:].sum(0)
    return target.numpy() + nnls(rows[1:].T.numpy(), -target.numpy())[0] @ rows[1:].numpy()


@pytest.mark.parametrize(
    ("margin", "weights"), [(0.0, (1.0, 1.0)), (0.5, (1.0, 1.0)), (1.5, (1.0, 1.5)), (3.0, (1.0, 3.0))]
)
def test_the_hand_example(margin, weights):
    """g = (2, 0), g_1 = (-1, 1): |g + v g_1|^2 is least at v = 1, or at the margin where that is larger."""
    assert GEM(margin=margin)(H @ H.T).tolist() == pytest.approx(weights)


@pytest.mark.parametrize("margin", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("m", [2, 4, 9])
@pytest.mark.parametrize("kind", ["plain", "uneven", "duplicate", "opposite", "zero"])
def test_the_program_is_solved(kind, m, margin):
    """`project2cone2` of the authors: min v'PP'v / 2 + (Pg)'v over v >= margin, where g conflicts."""
    for seed in range(5):
        rows = spoilt(m, 6, kind, seed=seed)
        wanted = oracle(rows, margin) if bool((rows[1:] @ rows[0] < 0).any()) else rows[0].numpy()
        size = float(rows.norm(dim=1).max())
        assert ((GEM(margin=margin)(rows @ rows.T) @ rows) / size).tolist() == pytest.approx(
            wanted / size, abs=1e-7
        )


@given(directions())
def test_no_past_task_is_hurt(rows):
    rows = rows / max(float(rows.norm(dim=1).max()), 1e-300)
    for margin in (0.0, 0.5):
        update = GEM(margin=margin)(rows @ rows.T) @ rows
        assert float((rows[1:] @ update).min() if len(rows) > 1 else 0.0) >= -1e-8


@given(directions())
def test_without_margin_it_is_dualproj_with_all_the_preference_on_the_task(rows):
    """The nearest point of a cone never opposes the point itself, so a constraint on g changes nothing."""
    rows = rows / max(float(rows.norm(dim=1).max()), 1e-300)
    gramian, preference = rows @ rows.T, torch.zeros(len(rows), dtype=torch.float64)
    preference[0] = 1.0
    wanted = DualProj()(gramian, preference=preference) @ rows
    torch.testing.assert_close(GEM(margin=0.0)(gramian) @ rows, wanted, rtol=0, atol=1e-7)


def test_with_a_margin_the_task_may_be_hurt_and_dualproj_forbids_it():
    """g + 3 g_1 = (-1, 3) hurts no past task, but g = (2, 0)."""
    update = GEM(margin=3.0)(H @ H.T) @ H
    assert float(H[0] @ update) < 0


def test_without_conflict_the_task_is_left_alone():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    assert GEM()(rows @ rows.T).tolist() == [1.0, 0.0, 0.0]


def test_the_task_goes_with_its_name():
    rows = spoilt(4, 6, "plain", seed=2)
    gramian, order = rows @ rows.T, [3, 0, 1, 2]
    first = GEM(primary="d")(gramian, names=("a", "b", "c", "d"))
    torch.testing.assert_close(first[order], GEM()(gramian[order][:, order], names=("d", "a", "b", "c")))


def test_refusals():
    with pytest.raises(ValueError, match=r"margin must be 0 or more, got -0.5"):
        GEM(margin=-0.5)
    with pytest.raises(ValueError, match="no objective is called 'task 9'; nearest: task"):
        GEM(primary="task 9")(H @ H.T, names=("task 1", "task 2"))
