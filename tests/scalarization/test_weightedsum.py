import math

import pytest
import torch

from equipoise.core.step import Step
from equipoise.scalarization import WeightedSum
from equipoise.testing.ask import weigh

NAMES = ("main", "auxiliary")
START, END = {"main": 1.0, "auxiliary": 4.0}, {"main": 3.0, "auxiliary": 0.0}


def tick(rule: WeightedSum, count: int, epoch_ended: bool = False) -> None:
    for _ in range(count):
        rule.update(Step(NAMES, torch.ones(2, dtype=torch.float64), None), epoch_ended=epoch_ended)


def weights(rule: WeightedSum) -> list[float]:
    return weigh(rule, torch.tensor([2.0, 5.0], dtype=torch.float64), names=NAMES).tolist()


def test_by_default_it_is_the_sum():
    rule = WeightedSum()
    tick(rule, 3, epoch_ended=True)
    assert rule(torch.tensor([1.0, 4.0])).item() == 5
    assert int(rule.clock) == 0  # nothing to follow


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("constant", [0, 0, 0, 0, 0]),
        ("linear", [0, 0.25, 0.5, 1, 1]),
        ("cosine", [0, (1 - math.sqrt(0.5)) / 2, 0.5, 1, 1]),
        ("step", [0, 0, 0, 1, 1]),
        (lambda t: t**2, [0, 1 / 16, 0.25, 1, 1]),
    ],
)
def test_weights_move_from_start_to_end_and_stay(schedule, shares):
    rule = WeightedSum(start=START, end=END, schedule=schedule, over=8)
    for passed, share in zip((0, 2, 4, 8, 20), shares, strict=True):
        tick(rule, passed - int(rule.clock))
        assert weights(rule) == pytest.approx([1 + 2 * share, 4 - 4 * share])


def test_a_schedule_over_epochs_waits_for_their_end():
    rule = WeightedSum(start=1.0, end=0.0, over=2, every="epoch")
    tick(rule, 5)
    assert weights(rule) == [1, 1]
    tick(rule, 1, epoch_ended=True)
    assert weights(rule) == [0.5, 0.5]


def test_the_clock_is_saved_with_the_rule():
    rule = WeightedSum(start=START, end=END, over=8)
    tick(rule, 3)
    fresh = WeightedSum(start=START, end=END, over=8)
    fresh.load_state_dict(rule.state_dict())
    assert weights(fresh) == weights(rule) == pytest.approx([1.75, 2.5])


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="'auxiliary'"):
        WeightedSum(start={"main": 1.0})(torch.ones(2), names=NAMES)
    with pytest.raises(ValueError, match=r"end is -1\.0 for 'main'"):
        WeightedSum(end={"main": -1.0, "auxiliary": 1.0})
    with pytest.raises(ValueError, match="'main' = -1"):
        WeightedSum(start=START, end=END, schedule=lambda t: -1.0)(torch.ones(2), names=NAMES)
    with pytest.raises(ValueError, match="'lineer'; nearest: linear"):
        WeightedSum(schedule="lineer")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="over is 0"):
        WeightedSum(over=0)
    with pytest.raises(ValueError, match="every is 'batch'"):
        WeightedSum(every="batch")  # pyright: ignore[reportArgumentType]
