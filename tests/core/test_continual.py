"""Worked values of De Lange et al. 2023, section 3, on streams small enough for the hand."""

import pytest
import torch

import equipoise
from equipoise.core.continual import Evaluations

PHASES = (("a", 3), ("b", 6), ("c", 9))
A = (0.1, 0.6, 0.8, 0.9, 0.2, 0.7, 0.8, 0.4, 0.5, 0.6)
B = (0.1, 0.1, 0.2, 0.1, 0.5, 0.8, 1.0, 0.3, 0.9, 0.8)
C = (0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.1, 0.6, 0.6, 0.7)


def stream() -> Evaluations:
    found = Evaluations(PHASES)
    for step, (a, b, c) in enumerate(zip(A, B, C, strict=True)):
        found.add(step, {"a": a, "b": b, "c": c})
    return found


def test_acc_and_forgetting_look_at_the_ends_of_the_phases():
    assert stream().acc() == pytest.approx((0.6 + 0.8 + 0.7) / 3)
    assert stream().acc(2) == pytest.approx((0.8 + 1.0) / 2)
    assert stream().forgetting() == pytest.approx(((0.9 - 0.6) + (1.0 - 0.8)) / 2)
    assert stream().forgetting(2) == pytest.approx(0.9 - 0.8)
    assert stream().forgetting(1) == 0


def test_min_acc_is_the_mean_of_what_was_lowest_since_a_task_was_learned():
    assert stream().min_acc() == pytest.approx((0.2 + 0.3) / 2)
    assert stream().min_acc(2) == pytest.approx(0.2)


def test_wc_acc_weighs_the_present_task_with_the_worst_of_the_others():
    assert stream().wc_acc() == pytest.approx(0.7 / 3 + 2 / 3 * 0.25)
    assert stream().wc_acc(2) == pytest.approx(1.0 / 2 + 0.2 / 2)
    assert stream().wc_acc(1) == pytest.approx(0.9)


def test_windowed_changes_are_the_largest_within_a_window():
    """Window 2: neighbours. a falls by .7, b by .7, c by 0; a rises by .5, b by .6, c by .5."""
    assert stream().windowed_forgetting(2) == pytest.approx((0.7 + 0.7 + 0.0) / 3)
    assert stream().windowed_plasticity(2) == pytest.approx((0.5 + 0.6 + 0.5) / 3)
    # window 4: a rises from .1 to .9, b from .1 to 1, c by .6
    assert stream().windowed_plasticity(4) == pytest.approx((0.8 + 0.9 + 0.6) / 3)
    assert stream().windowed_forgetting(2, k=2) == pytest.approx((0.7 + 0.1) / 2)


def brute(values: list[float], window: int, sign: float) -> float:
    """The official code's: in every window of that many evaluations, the largest A_i - A_j, i before j."""
    changes = [0.0]
    for start in range(len(values)):
        part = values[start : start + window]
        changes += [sign * (part[i] - part[j]) for i in range(len(part)) for j in range(i + 1, len(part))]
    return max(changes)


@pytest.mark.parametrize("window", [2, 3, 7, 40])
def test_windows_slide_over_every_pair(window: int):
    values = torch.rand(30, generator=torch.Generator().manual_seed(window), dtype=torch.float64).tolist()
    found = Evaluations([("a", 29)])
    for step, value in enumerate(values):
        found.add(step, {"a": value})
    assert found.windowed_forgetting(window) == pytest.approx(brute(values, window, 1.0))
    assert found.windowed_plasticity(window) == pytest.approx(brute(values, window, -1.0))


def test_a_gap_says_how_deep_and_for_how_long():
    gaps = {(gap.task, gap.learning): gap for gap in stream().gaps(tolerance=0.15)}
    assert list(gaps) == [("a", "b"), ("a", "c"), ("b", "c")]
    first = gaps["a", "b"]
    assert (first.before, first.lowest, first.at, first.end) == (0.9, 0.2, 4, 0.8)
    assert first.depth == pytest.approx(0.7)
    assert first.recovered == 3
    assert gaps["a", "c"].recovered is None
    assert gaps["b", "c"].recovered == 2


def test_evaluation_at_the_ends_alone_hides_the_gap():
    coarse = Evaluations(PHASES)
    for step in (3, 6, 9):
        coarse.add(step, {"a": A[step], "b": B[step], "c": C[step]})
    assert coarse.acc() == stream().acc()
    assert coarse.forgetting() == stream().forgetting()
    assert coarse.min_acc() == pytest.approx((0.6 + 0.8) / 2)
    assert coarse.min_acc() > stream().min_acc()


def test_what_comes_later_does_not_count_and_order_does_not_matter():
    cut, mixed = Evaluations(PHASES), Evaluations(PHASES)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0)).tolist()
    for step in range(7):
        cut.add(step, {"a": A[step], "b": B[step]})
    for step in order:
        mixed.add(step, {"c": C[step], "a": A[step], "b": B[step]})
    assert mixed == stream()
    for figure in ("acc", "forgetting", "min_acc", "wc_acc"):
        assert getattr(cut, figure)(2) == getattr(stream(), figure)(2)


def test_through_json_and_as_a_table():
    found = Evaluations.from_json(stream().to_json())
    assert found == stream()
    assert found.figures((2,)) == stream().figures((2,))
    text = stream().table((2,))
    assert "min-ACC   0.250" in text
    assert "a     b         0.900   0.200   0.700  0.800  not" in text
    for wrong in ("[]", "{}", "no", '{"phases": [["a", 1]], "points": {"b": [[1, 0.5]]}}'):
        with pytest.raises(ValueError, match=r"JSON of evaluations|no task is called 'b'"):
            Evaluations.from_json(wrong)


def test_it_is_in_the_public_face():
    assert equipoise.Evaluations is Evaluations


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([], "there are no phases"),
        ([("a", 3), ("b", 3)], "the phase of 'b' ends at step 3, but begins after step 3"),
        ([("a", 0)], "the phase of 'a' ends at step 0"),
        ([("a", 3), ("a", 4)], "task 'a' has 2 phases"),
    ],
)
def test_phases_that_do_not_follow_each_other_are_refused(phases, message: str):
    with pytest.raises(ValueError, match=message):
        Evaluations(phases)


def test_refusals_name_the_task():
    found = Evaluations([("first", 2), ("second", 4)])
    with pytest.raises(ValueError, match="no task is called 'frist'; nearest: first"):
        found.add(1, {"frist": 0.5})
    with pytest.raises(ValueError, match="the accuracy of 'first' at step 1 is nan"):
        found.add(1, {"first": float("nan")})
    with pytest.raises(ValueError, match=r"'first' is evaluated at step 5, outside 0 \.\. 4"):
        found.add(5, {"first": 0.5})
    found.add(2, {"first": 0.5})
    with pytest.raises(ValueError, match="'first' was evaluated at step 2 before"):
        found.add(2, {"first": 0.6})
    with pytest.raises(ValueError, match="'first' was not evaluated at step 4"):
        found.acc()
    with pytest.raises(ValueError, match=r"'first' was not evaluated in the steps 3 \.\. 4"):
        found.min_acc()
    with pytest.raises(ValueError, match="'first' is the first"):
        found.min_acc(1)
    with pytest.raises(ValueError, match="'second' was not evaluated up to step 4"):
        found.windowed_forgetting(10)
    with pytest.raises(ValueError, match="window is 1"):
        found.windowed_forgetting(1)
    with pytest.raises(ValueError, match="k is 3; there are 2 phases"):
        found.acc(3)
