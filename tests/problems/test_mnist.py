"""MNIST read from OpenML is what the file holds."""

from types import SimpleNamespace

import numpy as np
import torch

from equipoise.problems import mnist


def test_mnist_from_openml_is_cut_where_its_test_images_begin(monkeypatch):
    greys = np.arange(70_000) % 251
    found = SimpleNamespace(data=np.repeat(greys[:, None], 784, axis=1), target=(greys % 10).astype(str))
    monkeypatch.setattr(mnist, "fetch", lambda number: found if number == 554 else None)
    x_train, y_train, x_test, y_test = mnist.read_mnist(None)
    assert (x_train.shape, x_test.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert x_train.dtype == torch.uint8
    assert torch.equal(y_train, torch.from_numpy(greys[:60_000] % 10))
    assert torch.equal(x_test[:, 5, 5].long() % 10, y_test)
