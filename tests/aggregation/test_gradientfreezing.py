import pytest
import torch

import equipoise
from equipoise.aggregation import GradientFreezing, Sum
from equipoise.core.step import Step

STEP = Step(("task", "flat"), torch.ones(2), None)
NAMES = ("task", "flat")


def run(freezing: GradientFreezing, task: list[list[float]], block: str = "scale") -> list[list[float]]:
    """The task's row after the transform, step by step."""
    seen = []
    for row in task:
        rows = torch.tensor([row, [5.0] * len(row)])
        found = freezing(rows, block=block, names=NAMES)
        assert found[1].tolist() == rows[1].tolist()
        seen.append(found[0].tolist())
        freezing.update(STEP)
    return seen


def alternating(count: int) -> list[list[float]]:
    return [[(-1.0) ** i] for i in range(count)]


def test_the_disorder_is_the_share_of_sign_changes():
    """Signs + + - - + of five steps change in 2 of 4 pairs."""
    freezing = GradientFreezing(window=4)
    run(freezing, [[3.0], [0.1], [-2.0], [-7.0], [1.0]])
    assert freezing.disorder == {"scale": 0.5}


def test_the_numbers_of_a_block_are_averaged():
    freezing = GradientFreezing(window=2)
    run(freezing, [[1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    assert freezing.disorder == {"scale": 0.5}


def test_a_steady_row_is_frozen_after_the_window_and_a_restless_one_is_not():
    """Jiang et al. 2024: below the threshold the task's gradient of the scale is frozen."""
    steady = GradientFreezing(window=3, threshold=0.3)
    assert run(steady, [[1.0]] * 6) == [[1.0]] * 4 + [[0.0]] * 2
    assert steady.frozen == ("scale",)
    restless = GradientFreezing(window=3, threshold=0.3)
    assert run(restless, alternating(6)) == alternating(6)
    assert restless.frozen == ()


def test_a_frozen_block_is_let_go_when_its_disorder_returns():
    freezing = GradientFreezing(window=2, threshold=0.5)
    seen = run(freezing, [[1.0]] * 3 + alternating(6))
    assert seen[:3] == [[1.0]] * 3
    assert seen[3:5] == [[0.0]] * 2
    assert seen[5:] == alternating(6)[2:]


def test_a_share_equal_to_the_threshold_is_not_below_it():
    freezing = GradientFreezing(window=10, threshold=0.3)
    signs = [1.0, -1.0, 1.0, -1.0, *[-1.0] * 8]
    assert run(freezing, [[s] for s in signs])[-1] == [-1.0]
    assert freezing.disorder == {"scale": 0.3}


def test_blocks_are_apart_and_only_those_named_are_watched():
    freezing = GradientFreezing(window=1, blocks=lambda name: name.endswith("scale"))
    for block in ("a.scale", "b.scale", "a.weight"):
        run(freezing, alternating(3) if block == "b.scale" else [[1.0]] * 3, block)
    assert freezing.disorder == {"a.scale": 0.0, "b.scale": 1.0}
    assert freezing.frozen == ("a.scale",)


def test_looking_twice_changes_nothing():
    freezing, once = GradientFreezing(window=2), GradientFreezing(window=2)
    for row in ([1.0], [1.0], [-1.0], [1.0], [1.0]):
        rows = torch.tensor([row, [5.0]])
        first = freezing(rows, block="scale", names=NAMES)
        assert torch.equal(freezing(rows, block="scale", names=NAMES), first)
        assert torch.equal(once(rows, block="scale", names=NAMES), first)
        freezing.update(STEP)
        once.update(STEP)
    assert freezing.disorder == once.disorder


def test_a_saved_transform_goes_on_where_it_stood():
    freezing, fresh = GradientFreezing(window=3), GradientFreezing(window=3)
    run(freezing, [[1.0], [1.0], [-1.0], [-1.0], [-1.0]])
    fresh.load_state_dict(freezing.state_dict())
    assert fresh.disorder == freezing.disorder
    assert run(fresh, [[1.0]] * 4) == run(freezing, [[1.0]] * 4)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_size_of_the_rows_does_not_matter(scale):
    freezing = GradientFreezing(window=2, threshold=0.9)
    assert run(freezing, [[scale]] * 4)[-1] == [0.0]


def test_what_stands_alone_is_not_frozen_and_an_absent_one_is_not_counted():
    freezing = GradientFreezing(objective="task", window=1)
    run(freezing, [[1.0]] * 2)
    assert freezing.frozen == ("scale",)
    alone = torch.tensor([[1.0]])
    assert torch.equal(freezing(alone, block="scale", names=("task",)), alone)
    freezing.update(STEP)
    other = torch.tensor([[-3.0]])
    assert torch.equal(freezing(other, block="scale", names=("flat",)), other)
    freezing.update(STEP)
    assert freezing.disorder == {"scale": 0.0}


def test_a_row_that_is_not_finite_is_not_hidden_and_not_counted():
    freezing = GradientFreezing(window=1)
    run(freezing, [[1.0]] * 2)
    found = freezing(torch.tensor([[float("nan")], [1.0]]), block="scale", names=NAMES)
    assert bool(found[0].isnan())
    freezing.update(STEP)
    assert freezing.disorder == {"scale": 0.0}
    assert run(freezing, [[1.0]]) == [[0.0]]


def test_it_stands_before_a_rule():
    """On a frozen scale the step is the gradient of the other objective alone, elsewhere the sum."""
    scale = torch.nn.Parameter(torch.tensor([2.0]))
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    freezing = GradientFreezing(objective="task", window=1, blocks=lambda name: name == "scale")
    for _ in range(3):
        scale.grad = weight.grad = None
        losses = {"flat": (scale * weight).sum(), "task": (scale + weight).sum()}
        parameters = {"scale": scale, "weight": weight}
        step = equipoise.backward(losses, Sum(), parameters=parameters, transforms=freezing)
        freezing.update(step)
    assert scale.grad.tolist() == [1.0]
    assert weight.grad.tolist() == [3.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"window": 0}, "window is 0"), ({"threshold": 1.5}, "threshold is 1.5"), ({"threshold": -0.1}, "-0.1")],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GradientFreezing(**options)


def test_an_objective_that_never_was_is_refused():
    freezing = GradientFreezing(objective="tsak")
    with pytest.raises(ValueError, match=r"'tsak'; nearest: task.*objective="):
        freezing(torch.ones(2, 1), block="scale", names=NAMES)


def test_a_block_that_changed_is_refused():
    freezing = GradientFreezing()
    run(freezing, [[1.0]])
    with pytest.raises(
        ValueError,
        match=r"block 'scale' has changed: 4 numbers of 'task' are kept, where its row now takes 6",
    ):
        freezing(torch.ones(2, 3), block="scale", names=NAMES)
