"""Surrogates of what is quadratic are exact, and their front is the front."""

import math

import pytest
import torch

from equipoise.core.quadratic import QuadraticFront, design, needed


def bowls(places: torch.Tensor) -> torch.Tensor:  # (n, 2) -> (n, 2)
    """|c - (1, 0)|^2 and |c - (0, 1)|^2: the front joins the two centres, (2(1 - t)^2, 2t^2)."""
    return torch.stack([((places - centre) ** 2).sum(-1) for centre in torch.eye(2, dtype=torch.float64)], -1)


def drawn(n: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fitted(n: int = 9) -> QuadraticFront:
    places = drawn(n, 2)
    return QuadraticFront(("left", "right"), places, bowls(places))


@pytest.mark.parametrize(("k", "count"), [(1, 3), (2, 6), (8, 45)])
def test_as_many_places_are_needed_as_a_quadratic_has_coefficients(k, count):
    """Li et al. 2024: (N + 1)(N + 2) / 2 for N scaling coefficients."""
    assert needed(k) == count == (k + 1) * (k + 2) // 2


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_quadratic_is_recovered_from_as_many_places_as_it_needs(k):
    square, line = drawn(k, k, 1), drawn(1, k, 2)[0]

    def quadratic(places):
        return ((places @ square) * places).sum(-1, keepdim=True) + (places @ line)[..., None] - 3

    places = drawn(needed(k), k)
    surrogate = QuadraticFront(("a",), places, quadratic(places))
    assert surrogate.rank == surrogate.needed
    elsewhere = drawn(50, k, 3)
    assert torch.allclose(surrogate.predict(elsewhere), quadratic(elsewhere), atol=1e-9)


def test_on_the_simplex_fewer_places_are_needed():
    """Scheffé's canonical quadratic of a mixture has no constant and no squares."""
    corners = torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float64)

    def mixture(places):
        return places @ corners.T + 4 * (places[..., :1] * places[..., 1:2])

    places = design(3, needed(3, simplex=True), simplex=True)
    surrogate = QuadraticFront(("a",), places, mixture(places), simplex=True)
    assert surrogate.rank == surrogate.needed == 6
    elsewhere = design(3, 28, simplex=True)
    assert torch.allclose(surrogate.predict(elsewhere), mixture(elsewhere), atol=1e-9)


def test_the_gradient_is_that_of_the_prediction():
    surrogate = QuadraticFront(("a", "b"), 3 * drawn(9, 2) - 1, drawn(9, 2, 5), low=[-1.0, -1.0], high=2.0)
    place = torch.tensor([0.3, 0.7], dtype=torch.float64)
    found = surrogate.gradient(place)
    for i in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[i] = 1e-6
        slope = (surrogate.predict(place + step) - surrogate.predict(place - step)) / 2e-6
        assert torch.allclose(found[:, i], slope, atol=1e-6)


def test_the_front_of_two_bowls_is_the_line_between_their_centres():
    """sqrt(f1 / 2) + sqrt(f2 / 2) = 1 along it, and a preference p has sqrt(p1) (1 - t) = sqrt(p2) t."""
    found = fitted().front(11)
    assert found.weights is not None
    for point, wish, solution in zip(found.points, found.weights, found.solutions, strict=True):
        assert (point / 2).sqrt().sum() == pytest.approx(1.0, abs=1e-3)
        share = wish[0].sqrt() / (wish[0].sqrt() + wish[1].sqrt())
        assert solution["input"].tolist() == pytest.approx([float(share), 1 - float(share)], abs=0.02)


def test_the_front_keeps_to_the_domain():
    places = drawn(12, 3)
    slopes = torch.tensor([[1.0, -2.0], [1.0, 1.0], [-3.0, 0.5]], dtype=torch.float64)
    found = QuadraticFront(("a", "b"), places, places @ slopes).front(5)
    inside = torch.stack([one["input"] for one in found.solutions])
    assert bool(((inside >= 0) & (inside <= 1)).all())
    assert found.points.min(0).values.tolist() == pytest.approx([-3.0, -2.0], abs=1e-6)
    mixtures = design(3, 15, simplex=True)
    on_it = QuadraticFront(("a", "b"), mixtures, mixtures @ slopes, simplex=True).front(5)
    sums = torch.stack([one["input"] for one in on_it.solutions]).sum(1)
    assert sums.tolist() == pytest.approx([1.0] * 5)


def test_the_unit_of_a_loss_does_not_turn_the_search():
    places = drawn(9, 2)
    losses = bowls(places)
    plain = QuadraticFront(("a", "b"), places, losses).front(5)
    scaled = QuadraticFront(("a", "b"), places, losses * torch.tensor([1e12, 1e-12])).front(5)
    for one, other in zip(plain.solutions, scaled.solutions, strict=True):
        assert one["input"].tolist() == pytest.approx(other["input"].tolist(), abs=1e-4)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_nor_does_the_unit_of_the_inputs(unit):
    places = drawn(9, 2)
    plain = QuadraticFront(("a", "b"), places, bowls(places)).front(5)
    scaled = QuadraticFront(("a", "b"), places * unit, bowls(places), high=unit).front(5)
    for one, other in zip(plain.solutions, scaled.solutions, strict=True):
        assert (other["input"] / unit).tolist() == pytest.approx(one["input"].tolist(), abs=1e-4)


def test_the_error_is_that_of_leaving_one_place_out():
    places = drawn(9, 2)
    losses = places.sin().prod(1, keepdim=True) + (5 * places[:, :1]).cos()
    surrogate = QuadraticFront(("a",), places, losses)
    missed = []
    for out in range(9):
        kept = [i for i in range(9) if i != out]
        missed.append(QuadraticFront(("a",), places[kept], losses[kept]).predict(places[out]) - losses[out])
    spread = losses.std(correction=0)
    assert float(surrogate.error) == pytest.approx(float(torch.stack(missed).square().mean().sqrt() / spread))


def test_what_is_quadratic_has_no_error_and_too_few_places_cannot_tell():
    assert fitted(9).error.tolist() == pytest.approx([0.0, 0.0], abs=1e-9)
    assert fitted(6).error.tolist() == [math.inf, math.inf]
    assert fitted(6).record()["error"] == [None, None]
    flat = QuadraticFront(("a",), drawn(4, 2), torch.ones(4, 1))
    assert flat.error.tolist() == [0.0]


def test_with_too_few_places_the_fit_still_goes_through_them():
    places = drawn(3, 2)
    surrogate = QuadraticFront(("left", "right"), places, bowls(places))
    assert (surrogate.rank, surrogate.needed) == (3, 6)
    assert torch.allclose(surrogate.predict(places), bowls(places))
    assert len(surrogate.front(3)) == 3


def test_one_place_gives_a_constant():
    surrogate = QuadraticFront(("a",), torch.tensor([[0.5]]), torch.tensor([[2.0]]))
    assert surrogate.predict(torch.tensor([[0.1]])).tolist() == [[2.0]]
    assert surrogate.front(5).points.tolist() == [[2.0]]


def test_refinement_evaluates_what_is_predicted_and_comes_closer():
    def true(place):
        return bowls(place) + 0.3 * (6 * place[:1]).cos()

    places = drawn(8, 2)
    first = QuadraticFront(("left", "right"), places, torch.stack([true(place) for place in places]))
    asked = []

    def evaluate(place):
        asked.append(place)
        return true(place)

    better = first.refine(evaluate, rounds=3, points=5)
    assert len(better.inputs) == len(first.inputs) + len(asked)
    assert len({tuple(place.tolist()) for place in asked}) == len(asked) > 3
    ends = torch.tensor([4.0, 4.0])
    assert better.measured().hypervolume(ends) > first.measured().hypervolume(ends)


def test_refinement_ends_where_the_prediction_is_known():
    linear = QuadraticFront(("a",), design(2, 8), design(2, 8)[:, :1])
    count = []
    linear.refine(lambda place: count.append(1) or place[:1], rounds=4)
    assert len(count) <= 1


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((torch.zeros(3), torch.zeros(3, 2)), {}, r"inputs have shape \(3,\)"),
        ((torch.zeros(3, 1), torch.zeros(3, 1)), {}, r"the losses left, right ask for \(3, 2\)"),
        ((torch.zeros(1, 1), torch.tensor([[0.0, math.nan]])), {}, "losses of right are not finite"),
        ((torch.tensor([[0.5], [2.0]]), torch.zeros(2, 2)), {}, r"input \[2.0\] lies outside"),
        ((torch.tensor([[0.5, 0.4]]), torch.zeros(1, 2)), {"simplex": True}, "outside the simplex"),
        ((torch.zeros(1, 1), torch.zeros(1, 2)), {"low": 1.0}, "high must be above low"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, said):
    with pytest.raises(ValueError, match=said):
        QuadraticFront(("left", "right"), *arguments, **options)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_design_holds_each_input_alone_and_no_place_twice(k):
    places = design(k, 2 * needed(k)).tolist()
    assert places[:k] == torch.eye(k).tolist()
    assert len(set(map(tuple, places))) == len(places) == 2 * needed(k)
    assert places == design(k, 2 * needed(k)).tolist()
    with pytest.raises(ValueError, match="at least 1"):
        design(k, 0)
