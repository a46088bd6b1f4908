"""MOOSVGD: the authors' update, recomputed by autograd on all particles, and the spread it reaches."""

from math import exp, log

import pytest
import torch

from equipoise.core.qp import min_norm
from equipoise.pareto import MOOSVGD
from equipoise.pareto.landscapes import named
from equipoise.pareto.moosvgd import repelled
from equipoise.pareto.solver import starts


def test_the_kernel_and_its_slopes_by_hand():
    """|f_1 - f_2|^2 = 2, h = 2: k = exp(-1), and d k / d f_1 = -k (f_1 - f_2)."""
    kernel, slopes = repelled(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), bandwidth=2.0)
    assert kernel.tolist() == [[1.0, pytest.approx(exp(-1))], [pytest.approx(exp(-1)), 1.0]]
    assert slopes[0].tolist() == pytest.approx([exp(-1), -exp(-1)])
    assert slopes[1].tolist() == pytest.approx([-exp(-1), exp(-1)])


def test_the_median_rule():
    """0, 1 and 3 on a line: the squared distances 0 0 0 1 1 4 4 9 9 have the median 1, so h = 1 / log 3."""
    losses = torch.tensor([[0.0], [1.0], [3.0]])
    kernel, _ = repelled(losses)
    assert float(kernel[0, 1]) == pytest.approx(exp(-log(3)))


def test_solutions_at_one_place_do_not_repel_and_stay_finite():
    kernel, slopes = repelled(torch.ones(3, 2))
    assert kernel.tolist() == [[1.0] * 3] * 3
    assert slopes.tolist() == [[0.0, 0.0]] * 3
    assert repelled(torch.ones(1, 2))[1].tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("bandwidth", [None, 0.3])
def test_a_step_is_the_authors_gradient(bandwidth):
    """`get_gradient`: (K g - kernel_grad) / n with kernel_grad = -1/2 grad_x sum_ij k_ij."""
    landscape, n, rate = named("vlmop2", d=3), 4, 0.1
    places = torch.stack([landscape.model(start).x.detach() for start in starts(5, n)]).requires_grad_()
    losses = landscape.values(places)
    descents = []
    for i in range(n):
        rows = torch.stack([torch.autograd.grad(f, places, retain_graph=True)[0][i] for f in losses[i]])
        descents.append(min_norm(rows @ rows.T).value @ rows)
    apart = (losses[:, None] - losses[None]).square().sum(-1)
    h = bandwidth or float(apart.detach().flatten().quantile(0.5)) / log(n)
    kernel = torch.exp(-apart / h)
    kernel_grad = -0.5 * torch.autograd.grad(kernel.sum(), places)[0]
    wanted = places.detach() - rate * (kernel.detach() @ torch.stack(descents) - kernel_grad) / n

    solver = MOOSVGD(points=n, bandwidth=bandwidth)
    front = solver.trace(landscape, budget=2 * n, learning_rate=rate, seed=5, gaps=False)
    found = torch.stack([solution["x"] for solution in front.solutions])
    torch.testing.assert_close(found, wanted)


def test_the_swarm_spreads_over_a_concave_front():
    """Liu et al. 2021: repulsion keeps solutions apart where descent alone brings them together."""
    landscape = named("vlmop2")
    options = {"budget": 2400, "learning_rate": 0.3, "gaps": False}
    spread = MOOSVGD(points=6).trace(landscape, **options)
    alone = MOOSVGD(points=6, repulsion=0.0).trace(landscape, **options)
    widths = [front.points.amax(0) - front.points.amin(0) for front in (spread, alone)]
    assert bool((widths[0] > 2 * widths[1]).all())
    assert spread.hypervolume([1.1, 1.1]) > alone.hypervolume([1.1, 1.1])


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="bandwidth is 0"):
        MOOSVGD(bandwidth=0)
