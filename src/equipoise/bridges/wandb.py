"""Wandb: the numbers of each step in a run of Weights & Biases, offline unless told otherwise."""

from collections.abc import Mapping
from typing import Any

from equipoise.bridges.tracker import Tracker, silent

SILENT = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}


class Wandb(Tracker):
    """Metrics of a run: one of yours, `run=wandb.init(...)`, or one that this begins.

    options: of `wandb.init`, for a run that this begins. It is offline, a folder below wandb/, unless
    WANDB_MODE is set or `mode` given. The step of each record is "equipoise/step", by which the metrics are
    plotted, so that it does not clash with a counter of yours.

    Raises what `Tracker` raises, and ImportError naming the extra `trackers` where wandb is not installed.
    """

    def __init__(
        self, run: Any = None, *, every: int = 1, layers: bool = True, number: int = 0, **options: Any
    ) -> None:
        super().__init__(every=every, layers=layers, number=number)
        wandb = silent("wandb", SILENT)
        if run is not None and options:
            raise ValueError(f"{', '.join(options)} are for a run that is begun here; {run!r} was given")
        self._own = run is None
        self.run = wandb.init(**options) if run is None else run
        self.run.define_metric("equipoise/*", step_metric="equipoise/step")

    def log(self, values: Mapping[str, float], number: int) -> None:
        self.run.log({"equipoise/step": number, **values})

    def close(self) -> None:
        if self._own and not self.closed:
            self.run.finish()
        super().close()
