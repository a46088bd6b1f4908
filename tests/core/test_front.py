"""Front: what it refuses, what it keeps, and that a file gives it back."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from equipoise.core import front as module
from equipoise.core.front import Front

NAMES = ("left", "right")
POINTS = torch.tensor([[0.0, 1.0], [0.25, 0.25], [1.0, 0.0], [0.5, 0.75]])
WEIGHTS = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.25, 0.75]])


def front(**more) -> Front:
    solutions = [{"a.weight": torch.full((2, 2), float(i)), "steps": torch.tensor(i)} for i in range(4)]
    return Front(NAMES, POINTS, WEIGHTS, solutions, {"solver": "ByHand", "seed": 3} | more)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((NAMES, torch.zeros(3)), r"points have shape \(3,\)"),
        ((NAMES, torch.zeros(3, 3)), r"points have shape \(3, 3\); for left, right"),
        (((), torch.zeros(3, 0)), "give each objective one"),
        ((("a", "a"), torch.zeros(3, 2)), "give each objective one of its own"),
        ((NAMES, torch.tensor([[0.0, float("nan")]])), "losses of right are not finite"),
        ((NAMES, torch.tensor([[float("inf"), float("nan")]])), "losses of left, right are not finite"),
        ((NAMES, torch.zeros(3, 2), torch.zeros(2, 2)), r"weights have shape \(2, 2\)"),
        ((NAMES, torch.zeros(3, 2), None, [{}]), "1 solutions for 3 points"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Front(*arguments)


def test_points_are_doubles_without_gradient():
    found = Front(NAMES, torch.ones(1, 2, requires_grad=True), torch.ones(1, 2, dtype=torch.float16))
    assert found.points.dtype == torch.float64
    assert not found.points.requires_grad
    assert found.weights is not None
    assert found.weights.dtype == torch.float64


def test_the_non_dominated_keep_their_weights_and_solutions():
    kept = front().nondominated()
    assert kept.points.tolist() == POINTS[:3].tolist()
    assert kept.weights is not None
    assert kept.weights.tolist() == WEIGHTS[:3].tolist()
    assert [int(one["steps"]) for one in kept.solutions] == [0, 1, 2]
    assert kept.record == front().record


def test_a_subset_is_in_the_order_asked_for():
    found = front().subset([2, 0])
    assert found.points.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert [int(one["steps"]) for one in found.solutions] == [2, 0]


def test_joined_fronts_keep_only_what_both_have():
    both = front().join(Front(NAMES, POINTS[:1]))
    assert len(both) == 5
    assert both.weights is None
    assert not both.solutions
    assert len(front().join(front()).solutions) == 8
    with pytest.raises(ValueError, match="does not join"):
        front().join(Front(("right", "left"), POINTS))


def test_a_pick_says_what_it_is():
    picked = front().pick({"right": 1.0, "left": 3.0})
    assert picked.place == 1
    assert picked.losses == {"left": 0.25, "right": 0.25}
    assert picked.weights is not None
    assert picked.weights.tolist() == [0.5, 0.5]
    assert picked.solution is not None
    assert int(picked.solution["steps"]) == 1
    assert front().pick([1, 0], by="weighted").place == 0
    assert front().pick(by="knee").place == 1


def test_a_pick_that_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match="empty"):
        Front(NAMES, torch.zeros(0, 2)).pick()
    with pytest.raises(ValueError, match="tchebycheff"):
        front().pick(by="tchebychef")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="2 objectives: left, right"):
        front().pick([1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="rigth"):
        front().pick({"left": 1.0, "rigth": 1.0})


def test_measures_of_a_front():
    """Below (1.1, 1.1), a tenth of each range beyond: 1.1 x .1, then .85 x .75, then .1 x .25."""
    assert front().hypervolume() == pytest.approx(1.1 * 0.1 + 0.85 * 0.75 + 0.1 * 0.25)
    assert front().hypervolume([1.0, 1.0]) == pytest.approx(0.75 * 0.75)
    assert front().igd_plus(front()) == 0.0
    assert front().epsilon(POINTS[:1] - 0.5) == pytest.approx(0.5)
    assert front().coverage(front().subset([0, 1])) == 1.0
    assert front().pseudo_weights().tolist() == [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [2 / 3, 1 / 3]]


def test_an_empty_front_has_no_volume_of_its_own():
    empty = Front(NAMES, torch.zeros(0, 2))
    assert empty.hypervolume([1.0, 1.0]) == 0.0
    assert len(empty.nondominated()) == 0
    assert empty.pseudo_weights().shape == (0, 2)
    with pytest.raises(ValueError, match="give a reference"):
        empty.hypervolume()


def test_a_file_gives_the_front_back(tmp_path: Path):
    kept = front(gaps=[0.5, None], note="é")
    kept.save(tmp_path / "front.safetensors")
    found = Front.load(tmp_path / "front.safetensors")
    assert found.names == kept.names
    assert torch.equal(found.points, kept.points)
    assert found.weights is not None
    assert torch.equal(found.weights, WEIGHTS.double())
    assert found.record == kept.record
    assert len(found.solutions) == 4
    for one, other in zip(found.solutions, kept.solutions, strict=True):
        assert {name: tensor.dtype for name, tensor in one.items()} == {n: t.dtype for n, t in other.items()}
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_more_than_ten_solutions_come_back_in_order(tmp_path: Path):
    many = Front(
        ("a",), torch.arange(12.0)[:, None], None, [{"x": torch.tensor(float(i))} for i in range(12)]
    )
    many.save(tmp_path / "front.safetensors")
    assert [float(one["x"]) for one in Front.load(tmp_path / "front.safetensors").solutions] == list(
        range(12)
    )


def test_points_alone_make_the_round_trip(tmp_path: Path):
    Front(NAMES, torch.zeros(0, 2)).save(tmp_path / "front.safetensors")
    found = Front.load(tmp_path / "front.safetensors")
    assert (len(found), found.weights, list(found.solutions), found.record) == (0, None, [], {})


def test_another_file_is_refused(tmp_path: Path):
    save_file({"points": torch.zeros(1, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no front"):
        Front.load(tmp_path / "other.safetensors")
    save_file(
        {"points": torch.zeros(1, 2)}, tmp_path / "new.safetensors", {"format": module.FORMAT, "version": "9"}
    )
    with pytest.raises(ValueError, match="version '9'"):
        Front.load(tmp_path / "new.safetensors")
    with pytest.raises(FileNotFoundError):
        Front.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("record", [{"seconds": float("nan")}, {"landscape": object()}])
def test_a_record_that_json_does_not_hold_leaves_the_old_file(tmp_path: Path, record):
    path = tmp_path / "front.safetensors"
    front().save(path)
    before = path.read_bytes()
    with pytest.raises((ValueError, TypeError)):
        front(**record).save(path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["front.safetensors"]


def test_it_says_what_it_holds():
    assert repr(front()) == "Front(4 points of left, right, by ByHand)"
