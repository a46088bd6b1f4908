"""Specification: everything that defines a merge, as YAML, TOML or JSON."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from equipoise.core.errors import unknown
from equipoise.core.tensorfile import named
from equipoise.merging.methods import method_kind
from equipoise.merging.options import check_options, defaults_of
from equipoise.merging.settings import check_setting
from equipoise.merging.writer import SHARD

DtypeName = Literal["float64", "float32", "bfloat16", "float16"]
BASE = "base"
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        for key in given if isinstance(given, Mapping) else ():
            if key not in cls.model_fields:
                raise ValueError(unknown("key", str(key), cls.model_fields))
        return given

    @field_validator("options", mode="after", check_fields=False)
    @classmethod
    def _settings(cls, options: dict[str, Any]) -> dict[str, Any]:
        for key, setting in options.items():
            check_setting(key, setting)
        return options


class ModelSpecification(_Strict):
    """One model: where it lies, and options of the method for it alone."""

    path: str
    options: dict[str, Any] = {}


class SourceSpecification(_Strict):
    """Layers of one model, from the first to the one before the last; `model: base` is the base."""

    model: str
    layers: tuple[int, int]
    options: dict[str, Any] = {}


class SliceSpecification(_Strict):
    """Layers that follow on those of the slice before, merged from sources of equal depth."""

    sources: tuple[SourceSpecification, ...] = Field(min_length=1)
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _equal(self) -> Self:
        for source in self.sources:
            first, end = source.layers
            if not 0 <= first < end:
                raise ValueError(f"layers {[first, end]} of {source.model} hold no layer")
        counts = {source.model: source.layers[1] - source.layers[0] for source in self.sources}
        if len(counts) < len(self.sources):
            raise ValueError("a model is named twice in one slice")
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{model} {count}" for model, count in counts.items())
            raise ValueError(f"the sources of a slice differ in depth: {told} layers")
        return self


class RuleSpecification(_Strict):
    """What holds for the tensors whose names hold `filter`: other options, or a method of its own."""

    filter: str
    method: str | None = None
    options: dict[str, Any] = {}


class MergeSpecification(_Strict):
    """A merge: models by name, perhaps a base, a method, and how they are read and written.

    An option may be a plain value, a gradient over the layers or a choice by the names of tensors, as
    `value_at` in `settings` has them. Of several values for one option that of a slice's source counts, else
    that of the model, of the slice, and of the method at last; a model for which none is given has the
    method's default. The first of `rules` that fits a tensor comes before all of them; one with a `method`
    stands alone. An option of kind `{method: NAME, options: {...}}` is a method, for methods that build on
    others. What a method finds over all tensors (a global threshold) is found over all that it merges, for
    each set of options as if that held for all of these. A filter that fits no tensor makes a note.

    Raises ValidationError (`specify` makes it a ValueError of one line).
    """

    models: dict[str, ModelSpecification] = Field(min_length=1)
    base: str | None = None
    method: str = "Average"
    options: dict[str, Any] = {}
    rules: tuple[RuleSpecification, ...] = ()
    slices: tuple[SliceSpecification, ...] = ()
    statistics: dict[str, str] = {}
    dtype: DtypeName | None = None
    precision: Literal["float32", "float64"] | None = None
    on_missing: Literal["fail", "base", "skip"] = "fail"
    vocab: Literal["fail", "intersect", "union"] = "fail"
    same_tokenizer: bool = False
    check: bool = False
    reading: Literal["map", "read"] = "map"
    pickles: bool = False
    shard_size: int = Field(default=SHARD, gt=0)
    threads: int | None = Field(default=None, ge=1)

    @field_validator("models", mode="before")
    @classmethod
    def _paths(cls, models: Any) -> Any:
        if isinstance(models, Sequence) and not isinstance(models, str):
            models = named([str(path) for path in models])
        if not isinstance(models, Mapping):
            raise ValueError(f"a mapping name: path, or a list of paths, not {models!r}")
        return {
            name: {"path": str(model)} if isinstance(model, str | Path) else model
            for name, model in models.items()
        }

    @field_validator("method", mode="after")
    @classmethod
    def _method(cls, method: str) -> str:
        return method_kind(method).__name__

    @field_validator("shard_size", mode="before")
    @classmethod
    def _bytes(cls, size: Any) -> Any:
        return size_of(size)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_options(self.method, self.options)
        for name, model in self.models.items():
            check_options(self.method, model.options, name, self.options)
        if self.slices and BASE in self.models:
            raise ValueError(f"slices: no model may be called {BASE!r}: there, that is the base's own name")
        for piece in self.slices:
            check_options(self.method, piece.options, shared=self.options)
            for source in piece.sources:
                if source.model == BASE and self.base is None:
                    raise ValueError("slices: a source is the base, and no base is named")
                if source.model not in (BASE, *self.models):
                    raise ValueError(f"slices: {unknown('model', source.model, [BASE, *self.models])}")
                shared = {**self.options, **piece.options}
                check_options(self.method, source.options, source.model, shared)
        for rule in self.rules:
            shared = self.options if rule.method is None else {}
            check_options(rule.method or self.method, rule.options, shared=shared)
        for name in self.statistics:
            if name not in self.models:
                raise ValueError(f"statistics: {unknown('model', name, self.models)}")
        return self

    def to_yaml(self) -> str:
        """All of it as YAML, with the defaults of the method's options."""
        found = self.model_dump(mode="json", exclude_none=True)
        found["options"] = {**defaults_of(self.method, self.options), **found["options"]}
        return yaml.safe_dump(found, sort_keys=False, width=100)


def size_of(size: Any) -> Any:
    """Bytes told in words, as 5GB, 500 MB or 2GiB, as a number; all else as it is.

    >>> size_of("1.5GB")
    1500000000
    """
    if not isinstance(size, str):
        return size
    found = re.fullmatch(r"\s*([\d.]+)\s*([kmgt]i?)?b?\s*", size, re.IGNORECASE)
    if found is None or (found[2] or "").upper() not in UNITS or found[1].count(".") > 1:
        raise ValueError(f"{size!r} is no size such as 5GB, 500MB or 2GiB")
    return int(float(found[1]) * UNITS[(found[2] or "").upper()])
