"""MLflow: the numbers of each step as metrics of a run."""

import re
import time
from collections.abc import Mapping

from equipoise.bridges.tracker import Tracker, silent

SILENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
FORBIDDEN = re.compile(r"[^\w\-./ :]")
BATCH = 1000
"""Metrics that MLflow takes in one call."""


class MLflow(Tracker):
    """Metrics of an MLflow run: the active one, or one that this begins and ends.

    tracking_uri: such as "sqlite:///runs.db"; by default what MLflow is set to. experiment: by name. run_id:
    of a run to go on with. run_name: of a new one. A sign that MLflow allows in no name, such as "~", becomes
    "_", and the tag "equipoise.renamed" then says which metric stands for what.

    Raises what `Tracker` raises, what MLflow raises, and ImportError naming the extra `trackers` where it is
    not installed. MLflow's report on its own use is off, unless MLFLOW_DISABLE_TELEMETRY is set otherwise.
    """

    def __init__(
        self,
        *,
        tracking_uri: str | None = None,
        experiment: str | None = None,
        run_id: str | None = None,
        run_name: str | None = None,
        every: int = 1,
        layers: bool = True,
        number: int = 0,
    ) -> None:
        super().__init__(every=every, layers=layers, number=number)
        self._mlflow = silent("mlflow", SILENT)
        if tracking_uri is not None:
            self._mlflow.set_tracking_uri(tracking_uri)
        if experiment is not None:
            self._mlflow.set_experiment(experiment)
        run = self._mlflow.active_run()
        self._own = run is None or (run_id is not None and run.info.run_id != run_id)
        if run is None or self._own:
            run = self._mlflow.start_run(run_id=run_id, run_name=run_name)
        self.run_id: str = run.info.run_id
        self._client = self._mlflow.MlflowClient()
        self._renamed: dict[str, str] = {}

    def log(self, values: Mapping[str, float], number: int) -> None:
        now = int(1000 * time.time())
        metric = self._mlflow.entities.Metric
        found = [metric(self._named(name), float(value), now, number) for name, value in values.items()]
        for start in range(0, len(found), BATCH):
            self._client.log_batch(self.run_id, metrics=found[start : start + BATCH])

    def _named(self, name: str) -> str:
        allowed = FORBIDDEN.sub("_", name)
        if allowed != name and allowed not in self._renamed:
            self._renamed[allowed] = name
            told = "; ".join(f"{new} = {old}" for new, old in self._renamed.items())
            self._client.set_tag(self.run_id, "equipoise.renamed", told[:5000])
        return allowed

    def close(self) -> None:
        if self._own and not self.closed:
            self._mlflow.end_run()
        super().close()
