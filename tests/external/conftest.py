"""Tests against peers; `make test-peers` installs them."""

import pytest

pytest.importorskip("torchjd", reason="TorchJD is not installed; make test-peers installs it and runs these")
