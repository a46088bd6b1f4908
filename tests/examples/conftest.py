"""Examples are files that are run, not a package: they are imported from their folder."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture(scope="session")
def example_of():
    """example_of(name): an example as a module."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))
