"""The inputs of the vectors of peers' scores, drawn as their generator draws them."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

FILE = Path(os.environ.get("EQUIPOISE_VECTORS", "")) / "transferability.json"
CASES = json.loads(FILE.read_text(encoding="utf-8"))["cases"] if FILE.is_file() else {}
needs_vectors = pytest.mark.skipif(not CASES, reason="$EQUIPOISE_VECTORS/transferability.json is missing")


class Case(NamedTuple):
    features: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    numbers: np.ndarray
    scores: dict


def case(name: str) -> Case:
    """Inputs and peers' scores of a case."""
    given = CASES[name]["params"]
    n, d, c = given["N"], given["D"], given["C"]
    draw = np.random.RandomState(given["seed"])
    chances = np.arange(1, c + 1) / np.arange(1, c + 1).sum()
    y = draw.choice(c, size=n, p=chances) if given.get("imbal") else np.arange(n) % c
    means = draw.randn(c, d) * given["sep"]
    x = means[y] + draw.randn(n, d)
    z = draw.randn(n, 7)
    p = np.exp(z - z.max(1, keepdims=True))
    t = x[:, :2] @ draw.randn(2, 2) + 0.1 * draw.randn(n, 2)
    assert np.isclose(x.sum(), CASES[name]["input_check"]["X_sum"])
    return Case(x, y, p / p.sum(1, keepdims=True), t, CASES[name]["scores"])
