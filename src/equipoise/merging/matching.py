"""Matching the tensors of models by name, with a policy for what is missing and for unlike vocabularies."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

import torch

from equipoise.core.errors import check_choice
from equipoise.merging.block import equal
from equipoise.merging.fit import prefix, tied, unfit
from equipoise.merging.report import Report, several
from equipoise.merging.source import Checkpoint, Source
from equipoise.merging.tokens import disagreement

OnMissing = Literal["fail", "base", "skip"]
"""A tensor that a model lacks: an error, the base's in its place, or a merge of those who have it."""

Vocab = Literal["fail", "intersect", "union"]
"""Unlike numbers of tokens: an error, the rows that all have, or each row from those who have it."""

_BY_TOKEN = re.compile(
    r"^(?:(?!\d+\.)[^.]+\.)*"  # no numbered layer before the word
    r"(?:(?:[^.]+_)?(?:embed(?:ding)?s?|wte|wpe|tok(?:en)?s?|vocab|heads?|logits|predictions)(?=[._]|$)"
    r"|(?:shared|output)\.(?:weight|bias)$)"
)
"""Names of embeddings and heads, whose rows are tokens."""

_BY_PLACE = re.compile(r"wpe|position")


@dataclass(frozen=True)
class Wanted:
    """A tensor of the merged model: its name there, in each model that takes part, and in the base."""

    name: str
    models: Mapping[str, str]
    base: str | None = None


@dataclass(frozen=True)
class Piece:
    """Rows of a tensor of the merged model, and who has them; all of it where vocabularies are alike."""

    shape: torch.Size
    sources: Mapping[str, Source]
    origin: Source | None


@dataclass(frozen=True)
class Match:
    """One tensor of the merged model, in pieces one below the other, or copied; `dtype` as stored."""

    name: str
    shape: torch.Size
    dtype: torch.dtype
    pieces: tuple[Piece, ...] = ()
    copied: Source | None = None


class Matching:
    """The tensors of models matched by name: `tensors`, and what was noticed in `report`.

    What is there is told by the base, by the first model where there is none, or by `wanted`. The base is
    named None among those that hold a tensor.
    """

    def __init__(
        self,
        checkpoints: Mapping[str, Checkpoint],
        base: Checkpoint | None,
        *,
        on_missing: OnMissing = "fail",
        vocab: Vocab = "fail",
        wanted: Sequence[Wanted] | None = None,
    ) -> None:
        check_choice("on_missing", on_missing, get_args(OnMissing))
        check_choice("vocab", vocab, get_args(Vocab))
        if on_missing == "base" and base is None:
            raise ValueError(
                "on_missing='base' takes the base's tensor in place of a missing one; name a base"
            )
        self.checkpoints = checkpoints
        self.base = base
        self.reference = base if base is not None else next(iter(checkpoints.values()))
        self.report = Report()
        self._on_missing, self._vocab = on_missing, vocab
        for file in {id(file): file for file in (self.reference, *checkpoints.values())}.values():
            self.report.faults += unfit(file)
        self.report.refuse()
        self._lost: dict[str, list[str]] = {}
        self._copied: dict[str, list[str]] = {}
        self._cut: list[str] = []
        self._rows: dict[str | None, int] = {}
        self._mixed: list[str] = []
        self._counted: list[str] = []
        places = wanted if wanted is not None else self._by_name()
        self.tensors = tuple(match for place in places if (match := self._match(place)) is not None)
        self._tell()

    def _by_name(self) -> list[Wanted]:
        reference, beyond = self.reference, []
        for file in self.checkpoints.values():
            extra = [name for name in file if name not in reference]
            lost = [name for name in reference if name not in file]
            if words := prefix(extra, lost):
                self.report.faults.append(
                    f"{file.path}: names hold {words[0]!r} where those of {reference.path} do not "
                    f"({words[1]!r} for {words[2]!r}); save the model inside its wrapper, or rename"
                )
                self.report.refuse()
            if whole := [name for name in extra if not file.dtype(name).is_floating_point]:
                words = f"{several(whole)} of whole numbers not in {reference.path}: left out"
                self.report.notes.append(f"{file.path}: {words}")
                extra = [name for name in extra if name not in whole]
            for name in list(extra):
                if tied(reference, name) and self._repeats(file, name):
                    self.report.notes.append(
                        f"{file.path}: {name!r} repeats the embedding, as the base ties it"
                    )
                    extra.remove(name)
            if not extra:
                continue
            match self._on_missing:
                case "fail":
                    self.report.faults += [
                        f"{file.path}: tensor {name!r} is not in {reference.path}" for name in extra
                    ]
                case "base":
                    words = f"{file.path}: {several(extra)} not in the base: left out"
                    self.report.notes.append(words)
                case "skip":
                    words = f"{file.path}: {several(extra)} not in {reference.path}: of those who have it"
                    self.report.notes.append(words)
                    beyond += [name for name in extra if name not in beyond]
        names = list(self.checkpoints)
        found = [Wanted(name, {model: name for model in names}, name) for name in reference]
        for name in beyond:
            holders = [model for model, file in self.checkpoints.items() if name in file]
            found.append(Wanted(name, {model: name for model in holders}))
        return found

    def _repeats(self, file: Checkpoint, head: str) -> bool:
        """Whether the head that a model stores is its embedding."""
        kind = file.shape(head), file.dtype(head)
        twins = [name for name in file if name != head and (file.shape(name), file.dtype(name)) == kind]
        return any(equal(Source(file, name), Source(file, head)) for name in twins)

    def _match(self, place: Wanted) -> Match | None:
        base, held = self.base, dict[str | None, Source]()
        if base is not None and (name := place.base and self._name_in(base, place.base)):
            held[None] = Source(base, name)
        whole = held.get(None)
        lacking = []
        for model, wanted in place.models.items():
            file = self.checkpoints[model]
            if (name := self._name_in(file, wanted)) is not None:
                held[model] = Source(file, name)
            else:
                lacking.append(model)
        if not held:
            raise ValueError(f"tensor {place.name!r} is in no model")
        first = next(iter(held.values()))
        for source in held.values():
            if source.dtype.is_floating_point != first.dtype.is_floating_point:
                self.report.faults.append(
                    f"{source} is {source.dtype}, in {first.checkpoint.path} {first.dtype}"
                )
                return None
        if not first.dtype.is_floating_point:
            for model in lacking:
                self._copied.setdefault(model, []).append(place.models[model])
            return self._copy(place.name, first, held)
        for model in lacking:
            file = self.checkpoints[model]
            if self._on_missing == "fail":
                owner = self.reference.path
                self.report.faults.append(
                    f"{file.path}: tensor {place.models[model]!r} of {owner} is missing"
                )
            else:
                self._lost.setdefault(model, []).append(place.models[model])
                if self._on_missing == "base" and whole is not None:
                    held[model] = whole
        held = {model: held[model] for model in (None, *place.models) if model in held}
        if len({source.dtype for source in held.values()}) > 1:
            self._mixed.append(place.name)
        if re.search(r"running_(mean|var)$", place.name):
            self._counted.append(place.name)
        if set(held) == {None}:
            return Match(place.name, first.shape, first.dtype, copied=first)
        pieces = list(self._pieces(place.name, held, first))
        if not pieces:
            return None
        shape = pieces[0].shape
        if len(pieces) > 1:
            shape = torch.Size([sum(piece.shape[0] for piece in pieces), *shape[1:]])
        return Match(place.name, shape, first.dtype, tuple(pieces))

    def _name_in(self, file: Checkpoint, name: str) -> str | None:
        if name in file:
            return name
        found = tied(file, name)
        if found is not None:
            words = f"{file.path}: {name!r} is tied to {found!r}, whose values are taken"
            if words not in self.report.notes:
                self.report.notes.append(words)
        return found

    def _copy(self, name: str, first: Source, held: Mapping[str | None, Source]) -> Match:
        for source in held.values():
            alike = source.dtype == first.dtype and source.shape == first.shape
            if source is not first and not (alike and equal(source, first)):
                self.report.notes.append(
                    f"tensor {name!r} of {first.dtype} differs in {source.checkpoint.path}: "
                    f"copied from {first.checkpoint.path}"
                )
        return Match(name, first.shape, first.dtype, copied=first)

    def _pieces(self, name: str, held: Mapping[str | None, Source], first: Source) -> Iterator[Piece]:
        shapes = {model: source.shape for model, source in held.items()}
        if len(set(shapes.values())) == 1:
            yield _piece(held, None)
            return
        unlike = [source for source in held.values() if source.shape != first.shape]
        by_token = (
            bool(_BY_TOKEN.search(name))
            and len(first.shape) in (1, 2)
            and all(len(s) == len(first.shape) and s[1:] == first.shape[1:] for s in shapes.values())
        )
        if not by_token or self._vocab == "fail":
            choose = "; choose vocab='intersect' (rows that all have) or 'union'" if by_token else ""
            self.report.faults += [
                f"{source.checkpoint.path}: tensor {source.tensor!r} has shape {tuple(source.shape)}, "
                f"in {first.checkpoint.path} {tuple(first.shape)}{choose}"
                for source in unlike
            ]
            return
        self._cut.append(name)
        rows = {model: shape[0] for model, shape in shapes.items()}
        if not _BY_PLACE.search(name):
            self._rows = {model: min(n, self._rows.get(model, n)) for model, n in rows.items()}
        ends = sorted(set(rows.values()))
        start = 0
        for stop in ends[:1] if self._vocab == "intersect" else ends:
            yield _piece({model: held[model] for model, n in rows.items() if n >= stop}, (start, stop))
            start = stop

    def _tell(self) -> None:
        report = self.report
        for model, lost in self._lost.items():
            done = "the base's in its place" if self._on_missing == "base" else "it does not count there"
            report.notes.append(f"{self.checkpoints[model].path}: {several(lost)} missing: {done}")
        for model, lost in self._copied.items():
            words = f"{several(lost)} of whole numbers missing: copied from those who have it"
            report.notes.append(f"{self.checkpoints[model].path}: {words}")
        if self._mixed:
            files = [] if self.base is None else [self.base]
            kinds = {f"{f.path}: {_kind(f, self._mixed[0])}" for f in (*files, *self.checkpoints.values())}
            report.notes.append(f"{several(self._mixed)} of mixed dtypes ({', '.join(sorted(kinds))})")
        if self._counted:
            report.notes.append(
                f"running statistics ({several(self._counted)}) are merged as weights are; "
                "renew them on data where results matter"
            )
        if self._cut:
            rows = ", ".join(f"{model or 'the base'}: {n}" for model, n in self._rows.items())
            rows = f" ({rows})" if rows else ""
            report.notes.append(f"{several(self._cut)} with unlike numbers of rows{rows}, matched by place")
        self._compare_tokens()
        report.refuse()

    def _compare_tokens(self) -> None:
        for model, file in self.checkpoints.items():
            if file is self.reference:
                continue
            shared = [self._rows[one] for one in (None, model) if one in self._rows]
            words = disagreement(self.reference, file, min(shared, default=None))
            if words is None:
                continue
            if self._cut:
                self.report.faults.append(f"{words}; rows matched by place need equal tokens")
            else:
                self.report.notes.append(f"{words}; rows of embeddings are matched by place all the same")


def _piece(held: Mapping[str | None, Source], rows: tuple[int, int] | None) -> Piece:
    """Those rows of the tensor of each that holds it."""
    if rows is not None:
        start, stop = rows
        held = {
            model: Source(one.checkpoint, one.tensor, start * prod(one.shape[1:]), stop - start)
            for model, one in held.items()
        }
    sources = {model: source for model, source in held.items() if model is not None}
    origin = held.get(None)
    first = origin if origin is not None else next(iter(sources.values()))
    return Piece(first.shape, sources, origin)


def _kind(file: Checkpoint, name: str) -> str:
    return str(file.dtype(name)).removeprefix("torch.") if name in file else "missing"
