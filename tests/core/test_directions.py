"""Directions: lattices, points of least Riesz energy, and an order from the middle outwards."""

from math import comb

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.core.directions import das_dennis, inverted, inwards, outwards, riesz, spread


def spacing(points):  # (n, m) -> (n,)
    """The distance from each point to its nearest neighbour."""
    apart = torch.cdist(points, points)
    apart.fill_diagonal_(float("inf"))
    return apart.min(1).values


def energy(points, power):
    return float((torch.pdist(points) ** -power).sum().log())


@given(st.integers(1, 5), st.integers(1, 6))
def test_the_lattice_is_the_whole_one_of_das_and_dennis(m, partitions):
    points = das_dennis(m, partitions)
    assert len(points) == comb(partitions + m - 1, m - 1)
    torch.testing.assert_close((points * partitions).round() / partitions, points)
    torch.testing.assert_close(points.sum(1), torch.ones(len(points), dtype=torch.float64))
    assert sorted(map(tuple, points.tolist())) == list(map(tuple, points.tolist()))
    assert len(points.unique(dim=0)) == len(points)
    corners = {tuple(row) for row in torch.eye(m, dtype=torch.float64).tolist()}
    assert corners <= {tuple(row) for row in points.tolist()}


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 4), st.integers(1, 14))
def test_directions_are_as_many_as_asked_for_and_on_the_simplex(m, n):
    points = spread(m, n)
    assert points.shape == (n, m)
    assert float(points.min()) >= 0
    torch.testing.assert_close(points.sum(1), torch.ones(n, dtype=torch.float64))
    assert torch.equal(points, spread(m, n))
    if n >= m:
        for corner in torch.eye(m, dtype=torch.float64):
            assert float((points - corner).norm(dim=1).min()) < 1e-6


@pytest.mark.parametrize("n", [2, 3, 4, 6, 9])
def test_least_energy_on_an_interval_is_nearly_even(n):
    """On an interval, at s = 4, the points of least energy lie within a few hundredths of equal steps."""
    even = torch.linspace(0, 1, n, dtype=torch.float64)
    assert float((riesz(2, n)[:, 0] - even).abs().max()) < 0.03 / n


@pytest.mark.parametrize(("m", "n", "partitions"), [(3, 10, 3), (3, 15, 4), (4, 20, 3)])
def test_a_riesz_set_has_no_more_energy_than_the_lattice(m, n, partitions):
    """Blank et al. 2021: where a lattice exists, least energy does about as well or better. The descent may
    end in a local minimum: 0.1 in the logarithm is a hundredth or two in all distances."""
    assert energy(riesz(m, n), 2 * m) <= energy(das_dennis(m, partitions), 2 * m) + 0.1


def test_a_riesz_set_is_even_where_no_lattice_has_its_size():
    points = riesz(3, 50)
    apart = spacing(points)
    assert float(apart.min() / apart.max()) > 0.75
    assert torch.equal(points, riesz(3, 50))


def test_spread_takes_the_lattice_where_it_can():
    assert torch.equal(spread(3, 15), das_dennis(3, 4))
    assert torch.equal(spread(3, 11), riesz(3, 11))


def test_reciprocals_are_what_weights_ask_for():
    """The least of max p_i f_i on the line f_1 + f_2 = 1 is at f = (1/p) / sum(1/p)."""
    shares = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    line = torch.stack([shares, 1 - shares], 1)
    for weights in ([0.5, 0.5], [0.9, 0.1], [0.3, 0.7]):
        weights = torch.tensor(weights, dtype=torch.float64)
        best = line[(line * weights).amax(1).argmin()]
        torch.testing.assert_close(inverted(weights[None])[0], best, atol=2e-5, rtol=0)


def test_reciprocals_at_the_border_are_the_limit():
    near = torch.tensor([[1.0, 1e-12, 1e-12], [0.5, 0.5, 1e-12]], dtype=torch.float64)
    at = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(inverted(at), inverted(near), atol=1e-9, rtol=0)
    inside = spread(3, 15)
    inside = inside[(inside > 0).all(1)]
    torch.testing.assert_close(inverted(inverted(inside)), inside)


@pytest.mark.parametrize(("m", "n"), [(2, 11), (3, 15), (4, 20)])
def test_rays_drawn_inwards_have_reciprocals_that_differ(m, n):
    """On the border the reciprocals of (1/2, 1/2, 0) and (1/4, 3/4, 0) are one corner; not inside."""
    grid = spread(m, n)
    found = inverted(inwards(grid))
    assert len({tuple(row) for row in found.tolist()}) == n
    torch.testing.assert_close(inverted(found), inwards(grid))
    assert float((inwards(grid) - grid).abs().max()) <= 1e-3


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 9), st.integers(0, 100))
def test_from_the_middle_outwards_each_starts_from_the_nearest_that_is_there(n, seed):
    points = torch.rand(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    points = points / points.sum(1, keepdim=True)
    order = outwards(points)
    off = [float((points[place] - 1 / 3).norm()) for place, _ in order]
    assert sorted(place for place, _ in order) == list(range(n))
    assert off == sorted(off)
    assert order[0][1] is None
    for turn, (place, neighbour) in enumerate(order[1:], 1):
        assert neighbour is not None
        before = [float((points[place] - points[one]).norm()) for one, _ in order[:turn]]
        assert float((points[place] - points[neighbour]).norm()) == pytest.approx(min(before))


def test_of_two_weights_each_side_is_gone_down_by_itself():
    order = outwards(spread(2, 9))
    assert order[0] == (4, None)
    assert all(neighbour == (place + 1 if place < 4 else place - 1) for place, neighbour in order[1:])
    assert outwards(spread(2, 9)[:0]) == []


def test_corners_start_nobody():
    grid = spread(3, 15)
    corners = (grid == 1).any(1).nonzero()[:, 0].tolist()
    assert not {neighbour for _, neighbour in outwards(grid)} & set(corners)


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="one objective has one direction; 4"):
        spread(1, 4)
    with pytest.raises(ValueError, match="at least 1 weight"):
        riesz(3, 0)
    with pytest.raises(ValueError, match="1 partition"):
        das_dennis(3, 0)
