import math

import pytest
import torch

from equipoise.core.step import Step
from equipoise.scalarization import DTP
from equipoise.testing.ask import weigh


def step(rule: DTP, **losses: float) -> None:
    rule.update(Step(tuple(losses), torch.tensor(list(losses.values()), dtype=torch.float64), None))


def test_weights_are_the_focal_function_of_the_kpis():
    """Guo et al. 2018: FL(k; gamma) = -(1 - k)^gamma log k."""
    kpis = {"a": 0.9, "b": 0.5}
    rule = DTP(focus=2.0, kpi=lambda name, loss: kpis[name])
    found = weigh(rule, torch.ones(2, dtype=torch.float64), names=("a", "b"))
    assert found.tolist() == pytest.approx([-(0.1**2) * math.log(0.9), -(0.5**2) * math.log(0.5)])


def test_kpis_are_averaged_over_the_steps():
    """k <- alpha kpi + (1 - alpha) k, from the first KPI on; the present batch counts in `forward`."""
    kpis = iter([0.2, 0.6])
    rule = DTP(alpha=0.25, kpi=lambda name, loss: next(kpis))
    step(rule, a=1.0)
    step(rule, a=1.0)
    assert rule.read("averages", ("a",)).item() == pytest.approx(0.2 + 0.25 * 0.4)
    rule.kpi = lambda name, loss: 1.0
    mean = 0.3 + 0.25 * 0.7
    assert weigh(rule, torch.ones(1), names=("a",)).item() == pytest.approx(-(1 - mean) * math.log(mean))


def test_without_a_kpi_it_is_the_likelihood():
    found = weigh(DTP(), torch.tensor([0.1, 2.0], dtype=torch.float64))
    assert found.tolist() == pytest.approx([(1 - math.exp(-0.1)) * 0.1, (1 - math.exp(-2)) * 2])


def test_what_is_mastered_has_no_weight_and_what_is_hopeless_a_finite_one():
    rule = DTP(kpi=lambda name, loss: float(name == "a"))
    found = weigh(rule, torch.ones(2, dtype=torch.float64), names=("a", "b"))
    assert found.tolist() == pytest.approx([0, -math.log(1e-6)], rel=1e-5)


def test_an_absent_objective_keeps_its_average():
    rule = DTP(alpha=0.5)
    step(rule, a=0.1, b=0.7)
    step(rule, a=0.2)
    assert rule.read("averages", ("b",)).item() == pytest.approx(math.exp(-0.7))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"the KPI of 'b' is 55"):
        DTP(kpi=lambda name, loss: 55.0 if name == "b" else 1.0)(torch.ones(2), names=("a", "b"))
    with pytest.raises(ValueError, match="alpha is 0"):
        DTP(alpha=0)
    with pytest.raises(ValueError, match="focus is -1"):
        DTP(focus=-1)
