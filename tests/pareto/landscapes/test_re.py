"""The RE suite against the bounds of its published reference fronts, and against values worked by hand."""

import pytest
import torch
from scipy.optimize import minimize

from equipoise.pareto.landscapes import named

IDEAL = {
    "re21": {0: 1237.8414230005742, 1: 0.002761423749158419},
    "re24": {0: 60.5, 1: 0.0},
    "re31": {0: 5.53731918799e-05, 1: 0.333333333333, 2: 0.0},
    "re32": {0: 0.010205496875, 1: 0.00043904, 2: 0.0},
    "re33": {0: -0.721525, 1: 1.13907203907, 2: 0.0},
    "re34": {0: 1661.7078225, 1: 6.14280000608, 2: 0.0394},
    "re37": {0: 0.00889341391106, 1: 0.00488, 2: -0.431499999825},
    "re41": {0: 15.576004, 1: 3.58525, 2: 10.61064375, 3: 0.0},
    "re61": {0: 63840.2774, 1: 30.0, 2: 285346.896494, 3: 183749.967061, 4: 7.22222222222, 5: 0.0},
}
"""The least value of each objective over the suite's reference fronts, as kept by two users of the suite
(PSL-MOBO and LibMOON)."""


@pytest.mark.parametrize(("name", "objective"), [(name, i) for name in IDEAL for i in IDEAL[name]])
def test_the_least_value_in_the_box_is_the_reference_fronts(name, objective):
    landscape = named(name)
    d = len(landscape.lower)

    def both(x):
        place = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        value = landscape.values(place)[objective]
        (slope,) = torch.autograd.grad(value, place, allow_unused=True)
        return value.item(), (torch.zeros(d) if slope is None else slope).double().numpy()

    starts = torch.rand(200, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * d)
    pool = torch.cat([starts, corners])
    best = pool[landscape.values(pool)[:, objective].argsort()[:8]]
    found = min(minimize(both, start.numpy(), jac=True, bounds=[(0, 1)] * d).fun for start in best)
    assert found == pytest.approx(IDEAL[name][objective], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "x", "objective", "wanted"),
    [
        ("re24", [0, 0], 1, 44.2819047619),
        ("re31", [0, 0, 0], 1, 8246211.25124),
        ("re31", [0, 0, 0], 2, 19359919.7502),
        ("re32", [0, 0, 0, 0], 1, 17561.6),
        ("re32", [0, 0, 0, 0], 2, 425062976.628),
        ("re33", [1, 0, 0, 1], 0, -0.721525),
        ("re33", [0.8, 0, 0, 0], 2, 20.0),
        ("re34", [1, 1, 1, 1, 1], 0, 1640.2823 + 3 * 21.4255226),
        ("re61", [0, 1, 1], 0, 106780.37 * 0.2 + 61704.67),
    ],
)
def test_corners_have_the_worst_values_of_the_reference_fronts(name, x, objective, wanted):
    """The first five are the published nadir points; the others were worked by hand."""
    values = named(name).values(torch.tensor(x, dtype=torch.float64))
    if name == "re33" and objective == 2:
        # radii 75 and 75: nothing between them, so that every other constraint divides by nothing
        assert not bool(values.isfinite().all())
        return
    assert float(values[objective]) == pytest.approx(wanted, rel=1e-9)


def test_re21_is_covered_from_end_to_end():
    """Its ideal and nadir points are the ends of the front."""
    front = named("re21").front(50)
    assert front[0].tolist() == pytest.approx([1237.8414230005742, 0.04], rel=1e-9)
    assert front[-1, 1].item() == pytest.approx(0.002761423749158419, rel=1e-9)
    assert front[-1, 0].item() == pytest.approx(2886.3695604236013, rel=1e-6)
