"""Merges in a process of their own, whose memory is watched, or limited by the system."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from equipoise.core.tensorfile import TensorFile, write_tensors

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads the memory of a process from /proc, which Linux has"
)
MEGA = 1 << 20

WATCH = """
import json, sys, threading, time

def anonymous():
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("RssAnon"))

def grown(work):
    level = peak = anonymous()
    done = threading.Event()

    def watch():
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return peak - level
"""

BY_PARTS = (
    WATCH
    + """
from equipoise.merging import DARE, SCE, TIES, Average, Breadcrumbs, TaskArithmetic, merge

folder, found = sys.argv[1], {}
paths = [f"{folder}/{i}.safetensors" for i in range(3)]
rules = [Average(), TaskArithmetic(), TIES(), TIES(scope="tensor", count="exact"), DARE(rescale="l1"),
         SCE(select_topk=0.5), Breadcrumbs()]
for i, rule in enumerate(rules):
    options = {"method": rule, "out": f"{folder}/{i}", "reading": "read" if i == 1 else "map", "threads": 2}
    found[str(rule)] = grown(lambda: merge(paths, f"{folder}/base.safetensors", **options))
print(json.dumps(found))
"""
)

WHOLE = (
    WATCH
    + """
import torch
from equipoise.merging import DOGE, WUDI, IsoC, IsoCTS, RankOne, RegMean, TSVM
from equipoise.merging.engine import Memory, run
from equipoise.merging.estimate import estimate
from equipoise.merging.merge import prepare

def plan(rule, n):
    base, *models = ({"h.0.w": torch.randn(n, n)} for _ in range(4))
    grams = {f"model_{i}": {"h.0.w": model["h.0.w"].T @ model["h.0.w"]} for i, model in enumerate(models)}
    return prepare(models, base, method=rule, statistics=grams if rule.statistic else None)

found = {}
for rule in (RegMean(), WUDI(), IsoC(), IsoCTS(), TSVM(), RankOne(), DOGE(iterations=3)):
    warm, large = plan(rule, 64), plan(rule, 768)
    run(warm, Memory(warm))
    sink = Memory(large)
    found[type(rule).__name__] = grown(lambda: run(large, sink)), estimate(large, threads=1, trial=0).memory
print(json.dumps(found))
"""
)

LIMITED = """
import json, resource, sys
from equipoise.core.tensorfile import TensorFile
from equipoise.merging import TaskArithmetic, merge

def status(key):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(key))

folder, allowed = sys.argv[1], int(sys.argv[2])
resident = status("VmHWM")
resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + allowed,) * 2)
paths = [f"{folder}/{i}.safetensors" for i in range(3)]
merge(paths, f"{folder}/base.safetensors", method=TaskArithmetic(), out=f"{folder}/out", reading="read",
      threads=2)
grown = status("VmHWM") - resident
try:
    held = [tensor for path in paths for tensor in TensorFile(path, memory_map=False).values()]
    print(json.dumps([grown, len(held)]))
except RuntimeError as error:  # of torch's allocator
    print(json.dumps([grown, "memory" in str(error)]))
"""


def write(folder: Path, tensors: int, elements: int) -> None:
    """A base of ones and three models, which add 1, 2 and 4 to it."""
    for name, value in {"base": 1.0, "0": 2.0, "1": 3.0, "2": 5.0}.items():
        entries = ((f"w{i}", torch.full((elements,), value)) for i in range(tensors))
        write_tensors(folder / f"{name}.safetensors", entries)


def told(code: str, *arguments: object):
    """What a process prints; its allocator gives back at once what is freed, so that what is held is seen."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"},
    )
    return json.loads(done.stdout)


def test_element_wise_methods_hold_parts_of_a_tensor(tmp_path):
    """Under half of the largest tensor beyond the level before, where four times are promised."""
    draw = torch.Generator().manual_seed(0)
    for name in ("base", "0", "1", "2"):
        write_tensors(tmp_path / f"{name}.safetensors", [("w", torch.randn(8 * MEGA, generator=draw))])
    grown = told(BY_PARTS, tmp_path)
    assert len(grown) == 7
    assert {rule: peak for rule, peak in grown.items() if peak > 32 * MEGA / 2} == {}
    base, *models = (TensorFile(tmp_path / f"{name}.safetensors")["w"] for name in ("base", "0", "1", "2"))
    total = models[0] + models[1] + models[2]
    for i, right in enumerate([total / 3, total - 2 * base]):
        torch.testing.assert_close(TensorFile(tmp_path / str(i))["w"], right, rtol=1e-5, atol=1e-5)


def test_methods_of_whole_matrices_hold_what_is_estimated():
    """For one matrix each: not more, and at least a third, so that an estimate tells something."""
    grown = told(WHOLE)
    assert len(grown) == 7
    assert {rule: pair for rule, pair in grown.items() if not pair[1] / 3 < pair[0] <= pair[1]} == {}


def test_models_three_times_larger_than_the_memory_allowed_are_merged(tmp_path):
    """The kernel limits the data of the process, and refuses memory for the three models at once."""
    allowed = 96 * MEGA
    write(tmp_path, 6, 4 * MEGA)
    sizes = [(tmp_path / f"{i}.safetensors").stat().st_size for i in range(3)]
    assert sum(sizes) > 3 * allowed
    grown, refused = told(LIMITED, tmp_path, allowed)
    assert refused is True
    assert grown < allowed
    found = TensorFile(tmp_path / "out")
    assert all(bool((tensor == 8.0).all()) for tensor in found.values())
