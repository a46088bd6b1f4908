"""Analytic landscapes: values at points worked by hand, fronts that are attained, boxes that hold."""

from math import cos, exp, pi, sin, sqrt

import pytest
import torch

from equipoise.core.indicators import nondominated
from equipoise.pareto.landscapes import VLMOP2, ZDT1, ZDT3, Point, named
from equipoise.pareto.landscapes.analytic import power
from equipoise.pareto.landscapes.names import KINDS

KNOWN = ["zdt1", "zdt2", "zdt3", "zdt4", "zdt6", "vlmop2", "maf1", "re21"]
KNOWN += [f"dtlz{i}" for i in range(1, 8)]


def at(name, x, **options):
    return named(name, **options).values(torch.tensor(x, dtype=torch.float64)).tolist()


@pytest.mark.parametrize(
    ("name", "x", "wanted"),
    [
        ("zdt1", [0.25] + [0.0] * 29, [0.25, 0.5]),
        ("zdt1", [0.25] + [1.0] * 29, [0.25, 10 * (1 - sqrt(0.025))]),
        ("zdt2", [0.5] + [0.0] * 29, [0.5, 0.75]),
        ("zdt2", [0.5] + [1.0] * 29, [0.5, 10 * (1 - 0.05**2)]),
        ("zdt3", [0.25] + [0.0] * 29, [0.25, 0.5 - 0.25 * sin(2.5 * pi)]),
        ("zdt4", [0.25] + [0.0] * 9, [0.25, 0.5]),
        ("zdt4", [0.25] + [0.25] * 9, [0.25, (1 + 180.5625) * (1 - sqrt(0.25 / 181.5625))]),
        ("zdt6", [0.25] + [0.0] * 9, [1 - exp(-1), 1 - (1 - exp(-1)) ** 2]),
        ("zdt6", [0.0] + [1.0] * 9, [1.0, 10 * (1 - 0.01)]),
        ("vlmop2", [0.0] * 10, [1 - exp(-1), 1 - exp(-1)]),
        ("vlmop2", [1 / sqrt(10)] * 10, [0.0, 1 - exp(-4)]),
        ("dtlz1", [0.2, 0.4, *[0.5] * 5], [0.04, 0.06, 0.4]),
        ("dtlz1", [0.5, 0.5, *[0.0] * 5], [126 / 8, 126 / 8, 126 / 4]),
        ("dtlz2", [0.0] * 12, [3.5, 0.0, 0.0]),
        ("dtlz2", [1 / 3, 0.5, *[0.5] * 10], [sqrt(0.375), sqrt(0.375), 0.5]),
        ("dtlz3", [1.0, 0.0, *[0.5] * 10], [0.0, 0.0, 1.0]),
        ("dtlz3", [0.0, 0.0, *[0.0] * 10], [251.0, 0.0, 0.0]),
        ("dtlz4", [0.5 ** (1 / 100), 0.0, *[0.5] * 10], [sqrt(0.5), 0.0, sqrt(0.5)]),
        ("dtlz5", [0.5, 0.9, *[0.5] * 10], [0.5, 0.5, sqrt(0.5)]),
        ("dtlz6", [0.5, 0.9, *[0.0] * 10], [0.5, 0.5, sqrt(0.5)]),
        ("dtlz6", [0.0, 0.0, *[1.0] * 10], [11 * cos(pi / 44), 11 * sin(pi / 44), 0.0]),
        ("dtlz7", [0.5, 0.0, *[0.0] * 20], [0.5, 0.0, 6.0]),
        ("dtlz7", [0.0, 0.0, *[1.0] * 20], [0.0, 0.0, 33.0]),
        ("maf1", [0.5, 0.5, *[0.5] * 10], [0.75, 0.75, 0.5]),
        ("maf1", [0.0, 0.3, *[0.5] * 9, 1.0], [1.25, 1.25, 0.0]),
    ],
)
def test_values_at_points_worked_by_hand(name, x, wanted):
    """From the formulas of the papers; zdt, dtlz and maf1 also agree with pymoo's and LibMOON's as read."""
    assert at(name, x) == pytest.approx(wanted, abs=1e-6)


def test_sums_and_norms_of_fronts():
    """DTLZ1 lies on sum f = 1/2, DTLZ2-6 on the unit sphere, MaF1 on sum f = m - 1, for any m."""
    for m in (2, 3, 5):
        ones = torch.ones(15, dtype=torch.float64)
        torch.testing.assert_close(named("dtlz1", m=m).front(15).sum(1), ones / 2)
        torch.testing.assert_close(named("maf1", m=m).front(15).sum(1), ones * (m - 1))
        for name in ("dtlz2", "dtlz3", "dtlz4"):
            torch.testing.assert_close(named(name, m=m).front(15).norm(dim=1), ones)
    for name in ("dtlz5", "dtlz6"):
        torch.testing.assert_close(named(name).front(15).norm(dim=1), torch.ones(15, dtype=torch.float64))


@pytest.mark.parametrize("name", KNOWN)
def test_every_point_of_a_front_is_attained_in_the_box_and_none_dominates_another(name):
    landscape = named(name)
    for n in (1, 7, 40):
        places = landscape.optima(n)
        assert places.shape == (n, len(landscape.lower))
        assert bool(((places >= landscape.lower - 1e-12) & (places <= landscape.upper + 1e-12)).all())
        points = landscape.front(n)
        assert torch.equal(points, landscape.values(places))
        assert nondominated(points.numpy().round(12)).all()


@pytest.mark.parametrize("name", KNOWN)
def test_no_random_design_beats_the_front(name):
    """A dense front dominates, weakly and up to its spacing, whatever is drawn near the Pareto set."""
    landscape = named(name)
    generator = torch.Generator().manual_seed(0)
    near = landscape.optima(300)
    step = 0.02 * torch.randn(near.shape, generator=generator, dtype=torch.float64)
    near = near + step * (landscape.upper - landscape.lower)
    near = torch.minimum(torch.maximum(near, landscape.lower), landscape.upper)
    near = torch.cat([near, torch.stack([landscape.model(s).x.detach() for s in range(100)])])
    front, found = landscape.front(800), landscape.values(near)
    scale = front.amax(0) - front.amin(0)
    short = ((front[None] - found[:, None]) / scale).amax(2).amin(1)
    assert float(short.max()) < 0.05


@pytest.mark.parametrize("name", ["zdt1", "zdt2", "zdt4", "zdt6", "vlmop2", "dtlz5", "re21"])
def test_a_curve_is_covered_in_even_steps(name):
    points = named(name).front(30)
    steps = points[1:] - points[:-1]
    scale = points.amax(0) - points.amin(0)
    if name != "re21":  # its two functions differ a hundred thousand times in size
        scale = torch.ones_like(scale)
    lengths = (steps / scale).norm(dim=1)
    assert float(lengths.max() / lengths.min()) < (1.2 if name != "re21" else 6)


def test_zdt3_has_its_five_pieces():
    """The pieces' ends, to the digits of pymoo's table."""
    pieces = [(0, 0.0830015349), (0.1822287280, 0.2577623634), (0.4093136748, 0.4538821041)]
    pieces += [(0.6183967944, 0.6525117038), (0.8233317983, 0.8518328654)]
    first = ZDT3().front(2000)[:, 0]
    held = [[float(f) for f in first if low - 1e-3 <= f <= high + 1e-3] for low, high in pieces]
    assert sum(map(len, held)) == 2000
    for (low, high), inside in zip(pieces, held, strict=True):
        assert min(inside) == pytest.approx(low, abs=2e-3)
        assert max(inside) == pytest.approx(high, abs=2e-3)


def test_zdt6_covers_what_pymoo_says():
    first = named("zdt6").front(50)[:, 0]
    assert float(first.min()) == pytest.approx(0.2807753191, abs=1e-8)
    assert float(first.max()) == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_gradients_are_finite_all_over_the_box(name):
    landscape = named(name)
    corners = [landscape.lower, landscape.upper, (landscape.lower + landscape.upper) / 2]
    for place in (*corners, *(landscape.model(seed).x.detach() for seed in range(5))):
        model = Point(place.clone())
        for loss in landscape.losses(model).values():
            (slope,) = torch.autograd.grad(loss, model.x, retain_graph=True, allow_unused=True)
            assert slope is None or bool(slope.isfinite().all())


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_model_starts_in_the_box_and_is_brought_back_to_it(name):
    landscape = named(name)
    assert torch.equal(landscape.model(3).x, landscape.model(3).x)
    assert not torch.equal(landscape.model(3).x, landscape.model(4).x)
    model = landscape.model(0)
    assert bool(((model.x >= landscape.lower) & (model.x <= landscape.upper)).all())
    with torch.no_grad():
        model.x += 1000
    landscape.project(model)
    assert torch.equal(model.x, landscape.upper)
    assert landscape.evaluate(model).dtype == torch.float64
    torch.testing.assert_close(landscape.evaluate(model), torch.stack(list(landscape.losses(model).values())))


def test_a_root_is_exact_but_for_the_first_millionth():
    base = torch.tensor([0.0, 1e-6, 0.25, 1.0], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(power(base, 0.5), base.detach().sqrt())
    power(base, 0.5).sum().backward()
    assert float(base.grad[0]) == pytest.approx(1e3)


def test_what_is_unknown_is_said():
    with pytest.raises(ValueError, match="no analytic landscape is called 'ztd1'; nearest: zdt1"):
        named("ztd1")
    with pytest.raises(ValueError, match="RE34 has no known closed form"):
        named("re34").front(5)
    with pytest.raises(ValueError, match="known for m <= 3, not for m = 4"):
        named("dtlz5", m=4).front(5)
    with pytest.raises(ValueError, match="at least 2 variables"):
        ZDT1(d=1)


def test_losses_at_other_places_differentiate_by_those():
    landscape = VLMOP2(d=2)
    model = landscape.model(0)
    place = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    losses = landscape.losses_at(model, {"x": place})
    assert losses["f1"].item() == pytest.approx(1 - exp(-1))
    (slope,) = torch.autograd.grad(losses["f1"], place)
    torch.testing.assert_close(slope, torch.full((2,), -2 * exp(-1) / sqrt(2), dtype=torch.float64))


@pytest.mark.parametrize("name", ["zdt1", "zdt2", "vlmop2", "dtlz1", "dtlz2"])
def test_the_known_optima_are_stationary_though_they_stand_at_the_sides_of_the_box(name):
    landscape = named(name)
    model = landscape.model(0)
    assert landscape.gap(model) > 0.1
    for place in landscape.optima(5):
        model.load_state_dict({"x": place})
        assert landscape.gap(model) < 1e-9
