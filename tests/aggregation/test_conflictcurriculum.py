import pytest
import torch

import equipoise
from equipoise.aggregation import ConflictCurriculum, Harmonization, Mean, UPGrad
from equipoise.core.errors import NonFiniteDirection
from equipoise.core.step import Step


def pair(cosine, first=1.0, second=1.0):
    """The Gramian of two directions at this cosine."""
    product = cosine * first * second
    return torch.tensor([[first**2, product], [product, second**2]], dtype=torch.float64)


def test_the_threshold_moves_in_equal_steps_and_stays():
    curriculum = ConflictCurriculum(start=-0.4, end=0.2, steps=3)
    seen = []
    for _ in range(5):
        seen.append(curriculum.threshold)
        curriculum.update(pair(0.9))
    assert seen == pytest.approx([-0.4, -0.2, 0.0, 0.2, 0.2])


def test_what_conflicts_more_than_the_threshold_waits():
    curriculum = ConflictCurriculum(start=-0.3, end=0.0, steps=1)
    stack = torch.stack([pair(c) for c in (-0.9, -0.31, -0.29, 0.0, 0.8)])
    assert curriculum(stack).tolist() == [False, False, True, True, True]
    curriculum.update(stack)
    assert curriculum(stack).tolist() == [False, False, False, True, True]
    assert curriculum.share == pytest.approx(2 / 5)
    curriculum.update(stack)
    assert curriculum.share == pytest.approx(5 / 10)


@pytest.mark.parametrize(("first", "second"), [(1e-12, 1.0), (1e12, 1e12), (1e-12, 1e-12)])
def test_lengths_do_not_matter(first, second):
    curriculum = ConflictCurriculum()
    stack = torch.stack([pair(-0.4, first, second), pair(-0.2, first, second)])
    assert curriculum(stack).tolist() == [False, True]


def test_of_three_directions_the_worst_pair_counts():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.2]], dtype=torch.float64)
    assert not bool(ConflictCurriculum()(rows @ rows.T))
    assert bool(ConflictCurriculum()(rows[:2] @ rows[:2].T))


def test_zero_directions_and_single_ones_are_kept():
    curriculum = ConflictCurriculum(start=0.0, end=0.0)
    assert bool(curriculum(torch.zeros(2, 2)))
    assert curriculum(torch.ones(4, 1, 1)).tolist() == [True] * 4


def test_forward_moves_nothing():
    curriculum = ConflictCurriculum()
    for _ in range(3):
        curriculum(pair(-0.9))
    assert (curriculum.share, int(curriculum.taken)) == (0.0, 0)


def test_a_saved_curriculum_goes_on_where_it_was():
    curriculum = ConflictCurriculum(steps=4)
    for cosine in (-0.9, 0.5, -0.25):
        curriculum.update(pair(cosine))
    fresh = ConflictCurriculum(steps=4)
    fresh.load_state_dict(curriculum.state_dict())
    assert fresh.threshold == curriculum.threshold == pytest.approx(-0.075)
    assert fresh.share == curriculum.share == pytest.approx(2 / 3)


def test_a_step_of_training_says_how_its_batch_conflicts():
    point = torch.ones(2, dtype=torch.float64, requires_grad=True)
    losses = {"a": point[0], "b": 0.1 * point[1] - point[0]}
    step = equipoise.backward(losses, Harmonization())
    curriculum = ConflictCurriculum()
    assert not bool(curriculum(step))
    assert float(step.conflict().cosines[0, 1]) < -0.3
    curriculum.update(step)
    assert curriculum.share == 1.0


def test_objectives_left_out_of_a_step_do_not_count():
    gramian = pair(float("nan"))
    step = Step(("a", "b"), torch.ones(2), None, gramian, skipped=("b",))
    assert bool(ConflictCurriculum()(step))


def test_refusals():
    point = torch.ones(2, requires_grad=True)
    step = equipoise.backward({"a": point[0], "b": point[1]}, Mean())
    with pytest.raises(ValueError, match="this step has no Gramian"):
        ConflictCurriculum()(step)
    with pytest.raises(ValueError, match=r"a Gramian is \(..., m, m\), got \(3,\)"):
        ConflictCurriculum()(torch.ones(3))
    with pytest.raises(NonFiniteDirection, match="'1'"):
        ConflictCurriculum()(pair(0.5, 1.0, float("nan")))
    with pytest.raises(ValueError, match="not a number"):
        ConflictCurriculum()(torch.tensor([[1.0, float("nan")], [float("nan"), 1.0]]))
    with pytest.raises(ValueError, match="start is -2"):
        ConflictCurriculum(start=-2.0)
    with pytest.raises(ValueError, match="steps is 0"):
        ConflictCurriculum(steps=0)


def test_an_overflow_is_the_scalers_to_skip_and_is_not_counted():
    """The first factor of a GradScaler is mostly too large; a rule without directions is still refused."""
    weight = torch.ones(2, requires_grad=True)
    losses = {"a": weight.sum(), "b": 1e38 * weight.square().sum()}
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    curriculum = ConflictCurriculum()
    step = equipoise.backward(losses, UPGrad(), scaler=scaler)
    assert step.overflowed
    assert bool(curriculum(step))
    curriculum.update(step)
    assert (int(curriculum.seen), int(curriculum.taken)) == (0, 0)
    fine = equipoise.backward({"a": weight.sum(), "b": -weight.sum()}, UPGrad(), scaler=scaler)
    assert not fine.overflowed
    assert not bool(curriculum(fine))
