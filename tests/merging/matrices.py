"""What the tests of rules over matrices share: the conformance vectors, and random task vectors."""

import json
import os
from pathlib import Path

import pytest
import torch

from equipoise.merging import merge

VECTORS = os.environ.get("EQUIPOISE_VECTORS")
needs_vectors = pytest.mark.skipif(not VECTORS, reason="EQUIPOISE_VECTORS names no folder")


def moved_by(rule, name):
    """What a rule adds to the base of the vectors, and the task vector that stands there under a name."""
    found = json.loads((Path(str(VECTORS)) / "merging.json").read_text())
    given = found["inputs"]
    base, models = (torch.tensor(given[key], dtype=torch.float64) for key in ("base", "finetuned"))
    result = next(one for key, one in found["results"].items() if key.startswith(name))
    merged = merge([{"w": one} for one in models], {"w": base}, method=rule)["w"]
    return merged - base, torch.tensor(result["output"], dtype=torch.float64)


def drawn(shape=(8, 12), m=3, dtype=torch.float64, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(m, *shape, generator=draw, dtype=dtype)


def combined(rule, deltas, **options):
    """The merged task vector of one tensor, over a base of zeros."""
    models = {f"m{i}": {"w": delta} for i, delta in enumerate(deltas)}
    return merge(models, {"w": torch.zeros_like(deltas[0])}, method=rule, **options)["w"]


def every_kind_of_tensor(dtype=torch.float32):
    """Three models and a base with a scalar, a vector, thin and square matrices, and a kernel."""
    draw = torch.Generator().manual_seed(9)
    shapes = {"s": (), "b": (5,), "row": (1, 7), "column": (6, 1), "w": (9, 6), "k": (4, 3, 2, 2)}

    def one():
        return {name: torch.randn(shape, generator=draw).to(dtype) for name, shape in shapes.items()}

    return {name: one() for name in "abc"}, one()


def check_hard_inputs(rule):
    """Zero task vectors, duplicates, opposites and thin tensors give finite values; threads change no bit."""
    models, base = every_kind_of_tensor()
    given = {**models, "zero": base, "twin": models["a"]}
    given["opposite"] = {name: 2 * base[name] - models["b"][name] for name in base}
    found = merge(given, base, method=rule)
    assert all(one.isfinite().all() for one in found.values())
    again = merge(given, base, method=rule, threads=3)
    assert all(torch.equal(found[name], again[name]) for name in found)
    still = merge({"one": base, "two": base}, base, method=rule)
    assert all(torch.equal(still[name], base[name]) for name in base)


def check_averages_the_rest(rule):
    """The papers' codes average the task vectors of all that has not two axes."""
    models, base = every_kind_of_tensor()
    found = merge(models, base, method=rule)
    for name in ("s", "b", "k"):
        right = torch.stack([one[name] for one in models.values()]).mean(0)
        torch.testing.assert_close(found[name], right)
