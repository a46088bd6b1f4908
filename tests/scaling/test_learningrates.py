"""Learning rates: the power of the tokens, warm-up and fall, cycles, other horizons and batches."""

import json

import pytest
import torch

from equipoise.scaling import WSD, CyclicBenchmark, PowerLR, ema_for_batch, lr_for_horizon, power_lr


@pytest.fixture(scope="module")
def held(vectors_folder):
    return json.loads((vectors_folder / "scaling.json").read_text(encoding="utf-8"))


def optimizer(*rates):
    """SGD over a parameter for each rate."""
    parameters = [torch.nn.Parameter(torch.ones(1)) for _ in rates]
    return torch.optim.SGD([{"params": [p], "lr": lr} for p, lr in zip(parameters, rates, strict=True)], lr=1)


def rates_of(made, scheduler, steps):
    """Learning rates of each step, (steps, groups)."""
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in made.param_groups])
        made.step()
        scheduler.step()
    return found


def test_the_power_law_of_the_paper(held):
    case = held["power_schedule"]
    a, b, peak, batch = case["constants (a,b from memory)"].values()
    for tokens, lr in case["cases"]:
        assert power_lr(tokens, batch=batch, peak=peak, a=a, b=b) == pytest.approx(lr, rel=1e-12)


def test_other_horizons_and_batches(held):
    for lr, tuned, tokens, expected in held["lr_horizon"]["cases"]:
        assert lr_for_horizon(lr, tuned, tokens) == pytest.approx(expected, rel=1e-12)
    for momentum, kappa, expected in held["ema_scaling"]["cases"]:
        assert ema_for_batch(momentum, kappa) == pytest.approx(expected, rel=1e-12)


def test_an_average_over_one_large_step_is_that_over_kappa_small_ones():
    """Busbridge et al. 2023: with weights that stand still, rho^kappa is kappa steps of rho."""
    small = 1.0
    for _ in range(8):
        small = 0.99 * small
    assert small == pytest.approx(ema_for_batch(0.99, 8))


def test_power_lr_keeps_the_multiples_between_groups():
    made = optimizer(0.02, 0.005)
    schedule = PowerLR(made, tokens=1e7, batch=128, total=200, decay=20)
    found = rates_of(made, schedule, 200)
    assert found[0] == [0.02, 0.005]
    assert found[100][0] == pytest.approx(power_lr(1e9, batch=128))
    assert found[100][1] == pytest.approx(found[100][0] / 4)
    assert found[199][0] == pytest.approx(power_lr(1.99e9, batch=128) / 20)


@pytest.mark.parametrize(("shape", "middle"), [("linear", 0.5), ("cosine", 0.5), ("sqrt", 1 - 0.5**0.5)])
def test_it_warms_up_stays_and_falls(shape, middle):
    made = optimizer(1.0)
    found = [rate for (rate,) in rates_of(made, WSD(made, total=100, warmup=10, decay=20, shape=shape), 101)]
    assert found[0] == pytest.approx(0.1)
    assert found[9:81] == [1.0] * 72
    assert found[90] == pytest.approx(middle)
    assert found[100] == pytest.approx(0.0)


def test_a_tenth_of_the_steps_is_the_fall_and_a_floor_is_kept():
    made = optimizer(1.0)
    found = [rate for (rate,) in rates_of(made, WSD(made, total=100, floor=0.1), 101)]
    assert found[90] == 1.0
    assert found[95] == pytest.approx(0.55)
    assert found[100] == pytest.approx(0.1)


def test_cycles_end_where_the_paper_says(held):
    case = held["cyclic_multiplicative"]
    made = optimizer(1.0)
    schedule = CyclicBenchmark(made, first=case["T0"], factor=case["m"])
    assert schedule.ends(case["ends"][-1]) == case["ends"]
    found, ended = [], []
    for step in range(800):
        found.append(made.param_groups[0]["lr"])
        made.step()
        schedule.step()
        if schedule.ended:
            ended.append(step + 1)
    assert ended == case["ends"]
    assert found[0] == found[100] == found[200] == found[400] == 1.0
    assert found[99] == pytest.approx(0.01)
    assert found[300] == pytest.approx(0.5)


def test_a_schedule_is_resumed():
    made = optimizer(1.0)
    schedule = WSD(made, total=100, warmup=10)
    rates_of(made, schedule, 95)
    again = optimizer(1.0)
    second = WSD(again, total=100, warmup=10)
    second.load_state_dict(schedule.state_dict())
    again.load_state_dict(made.state_dict())
    assert rates_of(again, second, 5) == rates_of(made, schedule, 5)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda: power_lr(1e9, batch=0), "batch is 0"),
        (lambda: lr_for_horizon(1e-3, 0.0, 1.0), "tuned is 0.0"),
        (lambda: ema_for_batch(1.0, 2), "momentum is 1.0"),
        (lambda: WSD(optimizer(1.0), decay=5), "total of steps is not given"),
        (lambda: WSD(optimizer(1.0), total=10, warmup=8, decay=5), "more than the total of 10"),
        (lambda: WSD(optimizer(1.0), total=10, shape="round"), "shape is 'round'"),
        (lambda: PowerLR(optimizer(1.0), tokens=1e6, batch=1, decay=5), "total of steps is not given"),
        (lambda: CyclicBenchmark(optimizer(1.0), first=10, factor=1), "factor is 1"),
    ],
)
def test_bad_input_is_told_by_name(fault, words):
    with pytest.raises(ValueError, match=words):
        fault()
