"""EPO: the authors' linear programs, worked by hand and solved by HiGHS, and where it ends."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from equipoise.core.directions import inverted
from equipoise.pareto import EPO
from equipoise.pareto.epo import balancing_weights
from equipoise.pareto.landscapes import named


def by_highs(products, losses, r, tolerance=1e-4):
    """The weights of `EPO_LP.get_alpha` in the authors' repository, from its statements, by HiGHS."""
    m = len(r)
    weighed = r * losses
    shares = weighed / weighed.sum()
    mu = (shares * np.log(shares * m)).sum()
    pull = products @ (r * (np.log(shares * m) - mu))
    if mu > tolerance:
        gain, rows, least = pull, [], []
        for i in range(m):
            if not (pull > 0).any() or weighed[i] == weighed.max():
                rows.append(products[i])
                least.append(0.0)
            elif pull[i] <= 0:
                rows.append(products[i])
                least.append(pull[i])
    else:
        gain = products.sum(0)
        rows, least = [*products, pull], [*np.zeros(m), min(pull.max(), 0.0)]
    found = linprog(-gain, A_ub=-np.array(rows), b_ub=-np.array(least), A_eq=np.ones((1, m)), b_eq=[1.0])
    return found.x, gain


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 5), st.integers(0, 100_000))
def test_weights_are_the_authors_programs(m, seed):
    random = np.random.default_rng(seed)
    directions = random.normal(size=(m, 8)) * random.uniform(0.1, 10, size=(m, 1))
    products = directions @ directions.T
    losses, r = random.uniform(0.1, 3, m), random.dirichlet(np.ones(m)) + 0.01
    if seed % 2:
        losses = 1 / r  # in proportion: the second phase
    wanted, gain = by_highs(products / np.trace(products), losses, r)
    given_ = (torch.from_numpy(part) for part in (products, losses, r))
    found = balancing_weights(*given_).numpy()
    if wanted is None:
        np.testing.assert_allclose(found, r / r.sum())
    else:
        assert found.sum() == pytest.approx(1)
        assert found.min() >= -1e-9
        assert gain @ found == pytest.approx(gain @ wanted, abs=1e-8)


def test_two_orthogonal_directions_out_of_proportion():
    """r = (1/2, 1/2), f = (4, 1), G = 1: shares (.8, .2), mu = .8 log 1.6 + .2 log .4 = .1927, so that
    a = (.5 (log 1.6 - mu), .5 (log .4 - mu)) = (.139, -.555): all the weight to the first."""
    eye = torch.eye(2, dtype=torch.float64)
    found = balancing_weights(eye, torch.tensor([4.0, 1.0]), torch.tensor([0.5, 0.5]))
    assert found.tolist() == pytest.approx([1.0, 0.0])


def test_in_proportion_all_descend():
    """With f in proportion the second program has w'G1 to maximise: the longer direction takes it."""
    gramian = torch.diag(torch.tensor([1.0, 9.0], dtype=torch.float64))
    found = balancing_weights(gramian, torch.tensor([1.0, 3.0]), torch.tensor([0.75, 0.25]))
    assert found.tolist() == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_size_of_directions_and_losses_does_not_matter(scale):
    gramian = torch.tensor([[1.0, -0.3], [-0.3, 0.5]], dtype=torch.float64)
    losses, r = torch.tensor([2.0, 0.7], dtype=torch.float64), torch.tensor([0.4, 0.6])
    torch.testing.assert_close(
        balancing_weights(gramian * scale**2, losses * scale, r), balancing_weights(gramian, losses, r)
    )


@pytest.mark.parametrize("losses", [[0.0, 0.0], [0.0, 1.0]])
def test_zero_losses_and_directions_give_finite_weights(losses):
    for gramian in (torch.zeros(2, 2), torch.ones(2, 2), torch.tensor([[1.0, -1.0], [-1.0, 1.0]])):
        found = balancing_weights(gramian.double(), torch.tensor(losses), torch.tensor([0.5, 0.5]))
        assert bool(found.isfinite().all())


def test_solutions_end_on_their_rays_of_a_concave_front():
    """Mahapatra and Rajan 2020, figure 4: on this problem every solution lies on its ray."""
    front = EPO(points=5).trace(named("vlmop2"), budget=2000, learning_rate=0.3, gaps=False)
    rays = inverted(front.weights)
    cosines = torch.nn.functional.cosine_similarity(front.points, rays, dim=1)
    assert float(cosines[1:-1].min()) > 0.999
    assert float(cosines.min()) > 0.99  # the end rays ask for a loss of nearly nothing
    assert front.igd_plus(named("vlmop2").front(100)) < 0.06


def test_a_negative_loss_is_refused_by_name():
    with pytest.raises(ValueError, match="f2 is below, so give `reference`"):
        EPO(points=2, reference={"f1": 0.0, "f2": 100.0}).trace(named("zdt1"), budget=8, learning_rate=0.1)
    with pytest.raises(ValueError, match="tolerance is 0"):
        EPO(tolerance=0)
