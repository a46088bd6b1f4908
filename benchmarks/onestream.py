"""Scores of features that are made chunk after chunk, in a process of its own; facts as JSON lines.

The first line comes after the imports, the second when all scores are known.
"""

import json
import sys
from collections.abc import Iterator

import numpy as np

from equipoise.transferability import Sample, energy, hscore, logme, ncm, ridgeprobe, transrate

CHUNK = 2000
CLASSES = 20


def main(size: int, width: int) -> None:
    """Score `size` samples of `width` features."""
    labels = np.arange(size) % CLASSES

    def chunks() -> Iterator[np.ndarray]:
        for at in range(0, size, CHUNK):
            draw = np.random.default_rng(at)
            rows = draw.standard_normal((min(CHUNK, size - at), width), np.float32)
            rows[np.arange(len(rows)), labels[at : at + CHUNK]] += 2
            yield rows

    print(json.dumps({}), flush=True)
    sample = Sample(chunks, labels)
    found = {score.__name__: score(sample) for score in (logme, hscore, transrate, ncm, energy, ridgeprobe)}
    found["hscore, shrunk"] = hscore(sample, shrinkage=True)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
