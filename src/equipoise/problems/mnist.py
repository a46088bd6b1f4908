"""MNIST as tensors, from the user's file or from OpenML."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from equipoise.problems.data import fetch


def read_mnist(path: Path | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images (60000, 28, 28) uint8, their digits int64, test images (10000, 28, 28), their digits.

    From the npz file `path` with x_train, y_train, x_test and y_test; where it is None, from OpenML's data
    set 554, which raises MissingData where it cannot be fetched.
    """
    if path is not None:
        with np.load(path, allow_pickle=False) as file:
            arrays = [file[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    else:
        found = fetch(554)
        images = found.data.reshape(-1, 28, 28).astype(np.uint8)
        labels = found.target.astype(np.int64)
        arrays = [images[:60_000], labels[:60_000], images[60_000:], labels[60_000:]]
    x_train, y_train, x_test, y_test = (torch.from_numpy(array) for array in arrays)
    return x_train, y_train.long(), x_test, y_test.long()
