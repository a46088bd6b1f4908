"""JSONLines: the numbers of each step as a line of JSON, with nothing to install."""

import json
from collections.abc import Mapping
from pathlib import Path

from equipoise.bridges.tracker import Tracker, plain
from equipoise.core.atomic import write


class JSONLines(Tracker):
    """One line for each record: {"step": 3, "equipoise/loss/a": 0.5, ...}; what is not finite is null.

    path: the file; its folder is made. Lines are written out at once. With `number` above 0, or after
    `load_state_dict`, lines of that step and later are dropped first, so that a run which is taken up again
    has each step once. A run with `number` 0 starts the file anew.

    Raises what `Tracker` raises, and ValueError naming file and line for a file that is not of such lines.

    ```python
    with JSONLines("runs/steps.jsonl") as log:
        for batch in loader:
            equipoise.backward(losses(batch), rule, parameters=model, observers=log)
    ```
    """

    def __init__(self, path: str | Path, *, every: int = 1, layers: bool = True, number: int = 0) -> None:
        super().__init__(every=every, layers=layers, number=number)
        self.path = Path(path)
        self._file = None

    def log(self, values: Mapping[str, float], number: int) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write(self.path, "".join(kept(self.path, number)))
            self._file = self.path.open("a", encoding="utf-8")
        self._file.write(json.dumps({"step": number, **plain(values)}) + "\n")
        self._file.flush()

    def close(self) -> None:
        super().close()
        if self._file is not None:
            self._file.close()
            self._file = None


def kept(path: Path, before: int) -> list[str]:
    """The lines of a file that are of steps before this one; a last line that was cut off is dropped."""
    if not path.exists() or not before:
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    found = []
    for place, line in enumerate(lines, 1):
        if place == len(lines) and not line.endswith("\n"):
            break
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {place}, is no step as JSONLines writes them: {error!r}"
            ) from error
        if step < before:
            found.append(line)
    return found
