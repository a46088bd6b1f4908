"""Tests against peers; `make test-peers` installs them."""

from importlib import import_module

import pytest


def pytest_configure() -> None:
    """Refuse to start without the peer: a skip would look like a pass."""
    try:
        import_module("torchjd")
    except ImportError as error:
        raise pytest.UsageError(
            "TorchJD is not installed; make test-peers installs it and runs these"
        ) from error
