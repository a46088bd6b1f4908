"""ParetoManifold: the weighted mean of m networks. Checked against the layers and the training step of
nik-dim/pamal (weights summed with alpha, losses summed with alpha), read line by line."""

import torch
from tests.pareto.bowls import Bowls

from equipoise.pareto import ParetoManifold
from equipoise.pareto.conditioned import Ensemble


def test_where_the_pareto_set_is_flat_the_manifold_is_the_pareto_set():
    """argmin sum_i p_i |x - e_i|^2 = p: the m networks end at the corners, and the mean at p is p."""
    for m in (2, 3):
        solver = ParetoManifold(points=6, monotony=0.0)
        front = solver.trace(Bowls(m), budget=1600, learning_rate=0.1)
        assert front.weights is not None
        found = torch.stack([one["x"] for one in front.solutions])
        assert torch.allclose(found, front.weights, atol=1e-3)


def test_what_is_in_order_is_not_moved_by_the_regulariser():
    """Along the line between the corners all losses are in order, so that it stays the optimum."""
    front = ParetoManifold(points=5, monotony=5.0, window=3).trace(Bowls(), budget=2400, learning_rate=0.1)
    assert front.weights is not None
    assert torch.allclose(torch.stack([one["x"] for one in front.solutions]), front.weights, atol=1e-3)


def test_a_step_moves_each_network_by_its_share_of_the_gradient():
    """d f(theta(p)) / d theta_i = p_i f'(theta(p)): over one step all networks move along one line."""
    landscape, solver = Bowls(), ParetoManifold(window=1, monotony=0.0)
    start = solver.start(landscape, landscape.model(0), 0)
    fitted = solver.fit(landscape, budget=1, learning_rate=0.1)
    assert isinstance(start, Ensemble)
    assert isinstance(fitted, Ensemble)
    moved = (fitted.members[0] - start.members[0]).detach()
    shares = (moved.norm(dim=1) / moved.norm(dim=1).sum()).tolist()
    with torch.no_grad():
        x = start(torch.tensor(shares, dtype=torch.float64))["x"]
    gradient = 2 * (x - torch.tensor(shares, dtype=torch.float64))
    assert torch.allclose(moved, -0.1 * torch.tensor(shares, dtype=torch.float64)[:, None] * gradient)


def test_the_networks_start_apart():
    landscape = Bowls(3)
    start = ParetoManifold().start(landscape, landscape.model(0), 0)
    assert isinstance(start, Ensemble)
    assert torch.equal(start.members[0][0], landscape.model(0).x)
    assert len({tuple(member) for member in start.members[0].tolist()}) == 3
