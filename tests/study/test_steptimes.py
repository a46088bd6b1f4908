"""Time per step relative to Mean."""

import time

import pytest

from equipoise.study.loop import Loop
from equipoise.study.steptimes import step_times
from equipoise.study.training import Trainer


def test_mean_takes_as_long_as_mean(trainer):
    found = step_times(trainer, 1.0)
    assert set(found) == {"Mean", "PCGrad", "FAMO"}
    assert found["Mean"]["ratio"] == pytest.approx(1, abs=0.3)
    assert all(times["low"] <= times["ratio"] <= times["high"] for times in found.values())


def test_a_slower_rule_has_a_larger_ratio(trainer, monkeypatch):
    step = Loop.step

    def slowed(self, *arguments, **options):
        if self.trial.rule == "FAMO":
            time.sleep(0.05)
        return step(self, *arguments, **options)

    monkeypatch.setattr(Loop, "step", slowed)
    found = step_times(trainer, 0.6)
    assert found["FAMO"]["low"] > 2 * found["PCGrad"]["high"]


def test_a_rule_that_raises_is_left_out(specified, monkeypatch):
    trainer = Trainer(specified())
    step = Loop.step

    def faulty(self, *arguments, **options):
        if self.trial.rule == "FAMO":
            raise LookupError("no such weight")
        return step(self, *arguments, **options)

    monkeypatch.setattr(Loop, "step", faulty)
    assert set(step_times(trainer, 0.2)) == {"Mean", "PCGrad"}


def test_it_keeps_to_its_time(specified):
    trainer = Trainer(specified(rules="PCGrad,FAMO,Linear,RLW,DWA"))
    started = time.perf_counter()
    step_times(trainer, 0.3)
    assert time.perf_counter() - started < 3
