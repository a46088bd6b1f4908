"""EvaluationLog: merged models that were evaluated, noted one by one in a file, so that none is lost."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.core.atomic import write

FORMAT = "equipoise.evaluations"
VERSION = 1
FILE = "evaluations.jsonl"


class EvaluationLog:
    """Places (weights of m models) and the metrics found there, in the order of evaluation.

    With a folder, its `evaluations.jsonl` holds a line of `facts` about what is merged and evaluated, then a
    line for each evaluation, written through to the disk before `add` returns. What stands there already is
    read; a last line that a killed run left unfinished is cut off.

    Raises ValueError where the file is of other facts, naming the one that differs, or is no such file, which
    is left as it is.
    """

    def __init__(self, names: Sequence[str], facts: Mapping[str, Any], folder: str | Path | None) -> None:
        self.names = tuple(names)
        self.metrics: tuple[str, ...] = ()
        self._found: dict[tuple[float, ...], tuple[float, ...]] = {}
        self._path = None if folder is None else Path(folder) / FILE
        if self._path is not None:
            self._open(self._path, {"format": FORMAT, "version": VERSION, "models": list(names), **facts})

    def __len__(self) -> int:
        return len(self._found)

    @property
    def places(self) -> Tensor:  # -> (n, m) float64
        """The weights that were evaluated."""
        return torch.tensor(list(self._found), dtype=torch.float64).reshape(len(self), len(self.names))

    @property
    def values(self) -> Tensor:  # -> (n, metrics) float64
        """The metrics found there."""
        return torch.tensor(list(self._found.values()), dtype=torch.float64)

    def has(self, place: Tensor) -> bool:
        """Whether a place was evaluated."""
        return tuple(place.tolist()) in self._found

    def add(self, place: Tensor, metrics: Mapping[str, float]) -> None:
        """Note an evaluation.

        Raises ValueError, naming the weights, for metrics that are none, not finite, or have other names than
        before.
        """
        weights = tuple(place.tolist())
        self._take(weights, {name: float(value) for name, value in metrics.items()})
        if self._path is not None:
            line = {
                "weights": dict(zip(self.names, weights, strict=True)),
                "metrics": dict(zip(self.metrics, self._found[weights], strict=True)),
            }
            _append(self._path, json.dumps(line))

    def _take(self, weights: tuple[float, ...], metrics: Mapping[str, float]) -> None:
        said = ", ".join(f"{name} {weight:g}" for name, weight in zip(self.names, weights, strict=True))
        if not metrics:
            raise ValueError(f"evaluate gave no metric at the weights {said}")
        self.metrics = self.metrics or tuple(metrics)
        if set(metrics) != set(self.metrics):
            before = ", ".join(self.metrics)
            raise ValueError(
                f"evaluate gave {', '.join(metrics)} at the weights {said}, before that {before}"
            )
        if wrong := [name for name, value in metrics.items() if not math.isfinite(value)]:
            raise ValueError(f"the metric {wrong[0]} is {metrics[wrong[0]]} at the weights {said}")
        self._found[weights] = tuple(metrics[name] for name in self.metrics)

    def _open(self, path: Path, facts: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        if not content:
            write(path, json.dumps(facts) + "\n")
            return
        whole = content[: content.rfind(b"\n") + 1]
        try:
            first, *lines = [json.loads(line) for line in whole.splitlines()]
            if first["format"] != FORMAT:
                raise ValueError(f"format {first['format']!r}")
            differs = _difference(first, json.loads(json.dumps(facts)))
            for line in lines if differs is None else ():
                weights = tuple(float(line["weights"][name]) for name in self.names)
                self._take(weights, {name: float(value) for name, value in line["metrics"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            words = "holds no evaluations"
            raise ValueError(f"{path} {words} ({error!r}); name another folder, or remove it") from error
        if differs is not None:
            raise ValueError(f"{path} holds evaluations of other merges: {differs}; name another folder")
        if len(whole) < len(content):
            os.truncate(path, len(whole))


def _difference(there: Mapping[str, Any], asked: Mapping[str, Any], about: str = "") -> str | None:
    """The first key, with those within it, of which the facts of a file and those asked for differ."""
    for key in {**asked, **there}:
        was, now = there.get(key), asked.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            if words := _difference(was, now, f"{about}{key}."):
                return words
        elif was != now:
            return f"{about}{key} was {was!r}, now it is {now!r}"
    return None


def _append(path: Path, line: str) -> None:
    with path.open("ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
