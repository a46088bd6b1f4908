"""Flower is an extra: without it these tests are skipped, or fail where they were asked for."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

ASKED = os.environ.get("EQUIPOISE_TEST_FLOWER") == "1"
"""Set by `make test-federated`."""
LACKING = "flwr is not installed; it comes with: pip install 'equipoise[federated]'"
SLOW = "a deployment of processes takes minutes: make test-federated"

if find_spec("flwr") is None and ASKED:
    raise pytest.UsageError(LACKING)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and "deployed" in item.keywords and not ASKED:
            item.add_marker(pytest.mark.skip(reason=SLOW))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "deployed: starts Flower's processes; run by make test-federated")
