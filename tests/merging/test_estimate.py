"""Estimates of memory and time against what a merge then takes."""

import json
import subprocess
import sys
from pathlib import Path
from time import process_time

import pytest
import torch

from equipoise.merging import TIES, TSVM, WUDI, Average, Fisher, RegMean, merge
from equipoise.merging.estimate import estimate
from equipoise.merging.merge import prepare

WATCHED = """
import json, sys, threading, time
import torch
from equipoise.merging.estimate import estimate
from equipoise.merging.merge import carry_out, prepare
from equipoise.merging.methods import method_named

def anonymous():
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("RssAnon"))

def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.001)

method, shape = sys.argv[1], tuple(map(int, sys.argv[2:]))
rule = method_named(method)
draw = torch.Generator().manual_seed(0)
models = {name: {"w": torch.randn(shape, generator=draw)} for name in "ab"}
known = {name: {"w": torch.eye(shape[1])} for name in "ab"} if rule.statistic else None
torch.linalg.eigh(torch.eye(8).double())
torch.linalg.cholesky_ex(torch.eye(8).double())
plan = prepare(models, {"w": torch.zeros(shape)}, method=rule, statistics=known)
done, level = False, anonymous()
peak, watcher = level, threading.Thread(target=watch)
watcher.start()
carry_out(plan, threads=1)
done = True
watcher.join()
print(json.dumps([estimate(plan, threads=1, trial=0).memory, peak - level]))
"""


def drawn(*shape, m=2):
    draw = torch.Generator().manual_seed(0)
    return {name: {"w": torch.randn(shape, generator=draw)} for name in "abcd"[:m]}, {"w": torch.zeros(shape)}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc/self/status, which Linux has")
@pytest.mark.parametrize(
    ("method", "shape"),
    [("regmean", (8, 2048)), ("regmean", (1024, 1024)), ("wudi", (8, 65536)), ("wudi", (2048, 1024))],
)
def test_memory_is_what_is_held(method, shape):
    """A Gram matrix may be far larger than its layer; WUDI's is bounded by the layer."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, method, *map(str, shape)], check=True, capture_output=True, text=True
    )
    told, held = json.loads(done.stdout)
    assert 0.6 * told < held < 1.2 * told


def test_what_is_read_counts_statistics():
    models, _ = drawn(4, 6)
    grams = {name: {"w": torch.eye(6, dtype=torch.float64)} for name in models}
    plan = prepare(models, method=RegMean(), statistics=grams)
    assert estimate(plan, threads=1, trial=0).read == 2 * (4 * 6 * 4 + 6 * 6 * 8)


@pytest.mark.parametrize(
    ("rule", "shape"),
    [(TSVM(), (700, 700)), (WUDI(), (1200, 1200)), (Average(), (2048, 2048)), (TIES(), (1024, 1024))],
)
def test_a_trial_keeps_to_its_time_and_tells_that_of_the_merge(rule, shape):
    """The whole tensor takes longer than the trial may, so its first rows tell."""
    models, base = drawn(*shape)
    plan = prepare(models, base, method=rule)
    before = process_time()
    merge(models, base, method=rule, threads=1)
    taken = process_time() - before
    before = process_time()
    told = estimate(plan, threads=1, trial=taken / 4)
    assert process_time() - before < taken
    assert told.seconds is not None
    assert taken / 8 < told.seconds < 8 * taken


def test_statistics_are_cut_with_the_rows_that_are_tried():
    models, _ = drawn(3000, 40)
    fisher = {name: {"w": torch.rand(3000, 40)} for name in models}
    plan = prepare(models, method=Fisher(), statistics=fisher)
    assert estimate(plan, threads=1, trial=1e-4).seconds
