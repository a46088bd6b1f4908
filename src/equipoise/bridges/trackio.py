"""Trackio: the numbers of each step in a database on this machine."""

from collections.abc import Mapping
from typing import Any

from equipoise.bridges.tracker import Tracker, silent

SILENT = {"HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_ANALYTICS_ENABLED": "False"}


class Trackio(Tracker):
    """Metrics of a run in trackio's own folder, $TRACKIO_DIR; `trackio show` opens them.

    project: its name; name and further options go to `trackio.init`, such as `resume="must"`.

    Raises what `Tracker` raises, and ImportError naming the extra `trackers` where trackio is not installed.
    """

    def __init__(
        self, project: str, *, every: int = 1, layers: bool = True, number: int = 0, **options: Any
    ) -> None:
        super().__init__(every=every, layers=layers, number=number)
        self._trackio = silent("trackio", SILENT)
        quiet = {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
        self._trackio.init(project=project, **{**quiet, **options})

    def log(self, values: Mapping[str, float], number: int) -> None:
        self._trackio.log(dict(values), step=number)

    def close(self) -> None:
        if not self.closed:
            self._trackio.finish()
        super().close()
