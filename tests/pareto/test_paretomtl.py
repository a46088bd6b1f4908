"""ParetoMTL: the authors' weights worked by hand, and one solution in each cone."""

from math import sqrt

import pytest
import torch

from equipoise.core.directions import inverted
from equipoise.pareto import ParetoMTL
from equipoise.pareto.landscapes import named
from equipoise.pareto.paretomtl import cone_weights, violated

ENDS = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
EYE = torch.eye(2, dtype=torch.float64)


def test_constraints_are_the_differences_of_unit_rays_that_losses_violate():
    assert violated(torch.tensor([0.1, 0.2]), ENDS, 0).tolist() == []
    assert violated(torch.tensor([0.2, 0.1]), ENDS, 0).tolist() == [[1.0, -1.0]]
    middle = torch.tensor([[0.0, 1.0], [sqrt(0.5), sqrt(0.5)], [1.0, 0.0]], dtype=torch.float64)
    assert violated(torch.tensor([0.3, 0.3]), middle, 1).tolist() == []
    assert len(violated(torch.tensor([0.3, 0.29]), middle, 0)) == 2


def test_the_first_phase_descends_the_one_constraint_that_is_violated():
    """`get_d_paretomtl_init`: one active constraint has weight 1, so w is u_j - u_k."""
    found = cone_weights(EYE, torch.tensor([0.2, 0.1]), ENDS, 0, feasible=False)
    assert found.tolist() == [1.0, -1.0]


def test_the_second_phase_is_the_min_norm_point_with_the_constraints_among_the_rows():
    """`get_d_paretomtl` on G = 1, rows (1, 0), (0, 1), (1, -1): the least norm is at 1/2 (0, 1) + 1/2 (1, 0)
    or nearer 0: min |a (1,0) + b (0,1) + c (1,-1)| over the simplex is 1/sqrt(5) at (0, 3/5, 2/5)."""
    found = cone_weights(EYE, torch.tensor([0.2, 0.1]), ENDS, 0, feasible=True)
    assert found.tolist() == pytest.approx([2 / 5, 1 / 5])


def test_inside_the_cone_it_is_mgda():
    gramian = torch.tensor([[4.0, -2.0], [-2.0, 2.0]], dtype=torch.float64)
    found = cone_weights(gramian, torch.tensor([0.1, 0.2]), ENDS, 0, feasible=True)
    assert found.tolist() == pytest.approx([0.4, 0.6])


def test_the_second_phase_scales_weights_to_m():
    """The authors' `normalize_coeff`."""
    weigh = ParetoMTL(points=2).guide(ENDS, 0)
    weights = weigh(EYE, torch.tensor([0.2, 0.1], dtype=torch.float64), 0.9)
    assert weights.tolist() == pytest.approx([4 / 3, 2 / 3])


def test_the_first_phase_ends_for_good_once_the_cone_is_reached():
    weigh = ParetoMTL(points=2).guide(ENDS, 0)
    outside, inside = torch.tensor([0.2, 0.1]), torch.tensor([0.1, 0.2])
    assert weigh(EYE, outside, 0.0).tolist() == [1.0, -1.0]
    assert weigh(EYE, inside, 0.1).tolist() == pytest.approx([1.0, 1.0])
    assert weigh(EYE, outside, 0.15).tolist() == pytest.approx([4 / 3, 2 / 3])


def test_each_solution_lies_in_its_cone_of_a_concave_front():
    """Lin et al. 2019, figure 3: on this problem the solutions spread, one in each cone."""
    landscape = named("vlmop2", d=20)
    front = ParetoMTL(points=5).trace(landscape, budget=2000, learning_rate=1.0, gaps=False)
    rays = inverted(front.weights)
    units = rays / rays.norm(dim=1, keepdim=True)
    nearest = (front.points @ units.T).argmax(1)
    assert nearest.tolist() == list(range(5))
    assert front.igd_plus(landscape.front(100)) < 0.08


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="initial is 2"):
        ParetoMTL(initial=2)
    with pytest.raises(ValueError, match="points is 0"):
        ParetoMTL(points=0)
