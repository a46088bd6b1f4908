"""Flower itself, imported when it is asked for, and told to send nothing to anybody."""

import os
from types import ModuleType

from equipoise.core.optional import require

SILENT = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
"""What keeps Flower from reporting its use and from asking for news; a value that is set already stays."""


def flwr(module: str = "flwr.app") -> ModuleType:
    """A module of Flower; raises ImportError naming the extra `federated` where it is not installed."""
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
    return require(module, "federated")
