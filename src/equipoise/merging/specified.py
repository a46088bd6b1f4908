"""From a specification to a plan, and from the plan to the merged model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.merging.engine import Progress, thread_count
from equipoise.merging.merge import carry_out, prepare
from equipoise.merging.plan import Plan
from equipoise.merging.resolved import Resolved
from equipoise.merging.slices import Arranged, arranged
from equipoise.merging.source import Checkpoint, open_model
from equipoise.merging.specification import MergeSpecification
from equipoise.merging.tokens import disagreement, tokenizer_of


class Specified:
    """A merge as a specification tells it: `plan` says what will be done, `run` does it.

    Raises ValueError where models, options or tokenizers do not fit; nothing is written then.
    """

    def __init__(self, specification: MergeSpecification) -> None:
        self.specification = specification
        told = specification
        opening = {"reading": told.reading, "pickles": told.pickles}
        models = {name: open_model(model.path, name, **opening) for name, model in told.models.items()}
        base = None if told.base is None else open_model(told.base, "base", **opening)
        if told.same_tokenizer:
            _same_tokenizer(models, base)
        self._arranged: Arranged = arranged(told, models, base)
        resolved = Resolved(told, tuple(models), self._arranged.places)
        plan = prepare(
            {name: model.path for name, model in told.models.items()},
            told.base,
            method=resolved,
            wanted=self._arranged.wanted,
            **planning(told),
        )
        self.plan: Plan = replace(plan, notes=(*plan.notes, *resolved.notes(t.name for t in plan.tensors)))

    @property
    def threads(self) -> int:
        """The threads that the merge will have."""
        return thread_count(self.specification.threads)

    def run(self, out: str | Path | None = None, *, progress: Progress | None = None) -> dict[str, Tensor]:
        """Merge into the folder `out`, else into memory."""
        return carry_out(
            self.plan, out, config=self._arranged.config, progress=progress, **writing(self.specification)
        )


def planning(told: MergeSpecification) -> dict[str, Any]:
    """What a specification says of how models are read and matched, as options of `merge`."""
    return {
        "statistics": dict(told.statistics),
        "dtype": _dtype(told.dtype),
        "precision": _dtype(told.precision),
        "on_missing": told.on_missing,
        "vocab": told.vocab,
        "reading": told.reading,
        "pickles": told.pickles,
    }


def writing(told: MergeSpecification) -> dict[str, Any]:
    """What a specification says of how the merged model is made and written, as options of `merge`."""
    return {"check": told.check, "shard_size": told.shard_size, "threads": thread_count(told.threads)}


def _same_tokenizer(models: Mapping[str, Checkpoint], base: Checkpoint | None) -> None:
    files = [*([base] if base is not None else []), *models.values()]
    for file in files:
        if tokenizer_of(file) is None:
            raise ValueError(
                f"same_tokenizer: {file.path} has no tokenizer.json, so tokenizers cannot be compared"
            )
        if words := disagreement(files[0], file):
            raise ValueError(f"same_tokenizer: {words}; embeddings are not put into another order here")


def _dtype(name: str | None) -> torch.dtype | None:
    return None if name is None else getattr(torch, name)
