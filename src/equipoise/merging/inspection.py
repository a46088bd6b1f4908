"""inspect: what the weights, and data where there is any, say of a merge before it is made."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from equipoise.core.atomic import write_as
from equipoise.core.problem import Problem
from equipoise.merging.average import Average
from equipoise.merging.barrier import Evaluate, Evaluations, FunctionLosses, ProblemLosses, evaluations
from equipoise.merging.block import Blocks
from equipoise.merging.conflictmap import ConflictMap, conflict_map
from equipoise.merging.engine import one_thread_each, thread_count
from equipoise.merging.inspectionreading import Verdict, read, text
from equipoise.merging.matching import OnMissing, Vocab
from equipoise.merging.merge import Model, opened
from equipoise.merging.plan import plan
from equipoise.merging.source import Reading, open_model

SPECTRA = 1024
"""The shorter side of a matrix up to which its singular values are computed, unless told otherwise."""


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found, in plain numbers; matrices are in the order of `names`.

    weights: lengths, angles, opposed signs and ranks by tensor, by layer and in all. evaluations: losses of
    base, models, average and of the segments between them; None where there were no data. unranked: matrices
    beyond the limit, whose singular values were not computed. notes: what was noticed while tensors were
    matched by name. `str` gives a page of plain text, `to_json` all numbers, `page` pictures.
    """

    names: tuple[str, ...]
    weights: ConflictMap
    evaluations: Evaluations | None = None
    unranked: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def reading(self) -> Verdict:
        """Warnings, and what they advise, in sentences."""
        return read(self.names, self.weights, self.evaluations)

    def __str__(self) -> str:
        return text(self.names, self.weights, self.evaluations, self.unranked, self.notes)

    def to_json(self) -> str:
        """All numbers and sentences as JSON; what is not defined is null."""
        return json.dumps(asdict(self) | {"reading": asdict(self.reading())}, allow_nan=False)

    def page(self) -> str:
        """The inspection as one page of HTML that loads nothing from any host."""
        from equipoise.merging.inspectionpage import page

        return page(self)

    def write(self, path: str | Path) -> None:
        """Write the page, or the JSON where the name ends in .json, atomically.

        Raises ValueError for another ending.
        """
        write_as(path, "an inspection", {".html": self.page, ".json": lambda: self.to_json() + "\n"})


def inspect(
    checkpoints: Mapping[str, Model] | Sequence[Model],
    base: Model,
    *,
    problem: Problem | None = None,
    evaluate: Evaluate | None = None,
    points: int = 11,
    renew: int = 8,
    spectra: int = SPECTRA,
    on_missing: OnMissing = "fail",
    vocab: Vocab = "fail",
    reading: Reading = "map",
    pickles: bool = False,
    threads: int | None = None,
) -> Inspection:
    """Look at models that are to be merged: who is far, who conflicts and where, and what merging would cost.

    The weights are read once, part by part. Without data they give hints only: neither the cosine nor the
    signs of task vectors told in our study whether an average falls below the base, and the distance told in
    part. With a `problem` (its validation data) or `evaluate` (a `state_dict` -> the loss of each objective,
    lower is better) the average of all models and the segments between models, and from each to the base, are
    evaluated at `points` values of alpha; give objectives the names of the models that were tuned for them.
    Where accuracy is what counts, error rates tell more than losses; of a problem the metric decides.

    barrier = max over alpha of L(alpha) - ((1 - alpha) L(0) + alpha L(1)), L the mean loss of the objectives
    that the two are called after, else of all. Between models of unlike tasks it is often zero although the
    midpoint is bad, since both ends are bad at each other's task; so compare the average with the base.

    `spectra`: the shorter side up to which singular values of matrices are computed, which takes most of the
    time (0: none); weights stored in few bits have a delta full of rounding, whose rank is high. `renew`:
    batches of training data for running statistics of interpolated models; 0 keeps the interpolated ones.
    `on_missing`, `vocab`, `reading` and `pickles` as in `merge`. The m (m + 1) / 2 segments take `points` - 2
    evaluations each, with one model in memory.

    Raises ValueError where models do not match or are evaluated in two ways, NonFiniteDirection where values
    are not finite.

    Source: Frankle, Dziugaite, Roy, Carbin 2020, "Linear mode connectivity and the lottery ticket
    hypothesis", section 2, for the barrier; Yadav et al. 2023 (TIES-Merging), section 3, for conflicts of
    signs; `evidence/merge_warning.py` for what tells a bad merge beforehand.

    >>> import torch
    >>> base, up = {"w": torch.zeros(2)}, {"w": torch.tensor([1.0, 1.0])}
    >>> found = inspect({"up": up, "across": {"w": torch.tensor([1.0, -1.0])}}, base)
    >>> found.weights.total.cosines[0][1], found.weights.total.conflicts[0][1]
    (0.0, 0.5)
    """
    if problem is not None and evaluate is not None:
        raise ValueError("problem and evaluate are both given; losses come from one of them")
    if points < 3:
        raise ValueError(f"points is {points}; a segment needs 3 or more, both ends among them")
    models = opened(checkpoints, reading=reading, pickles=pickles)
    origin = open_model(base, "base", reading=reading, pickles=pickles)
    names = tuple(models)
    threads = thread_count(threads)
    rule = Average()
    planned = plan(models, origin, lambda _: rule, on_missing=on_missing, vocab=vocab)
    blocks = [
        block
        for tensor in planned.tensors
        for block in tensor.blocks
        if block.origin is not None and block.sources[0] is not block.origin  # else it is the base's own
    ]
    if not blocks:
        raise ValueError("the base holds no tensor of floating-point numbers; there is nothing to compare")
    with one_thread_each():
        weights = conflict_map(Blocks(blocks, threads), names, limit=spectra)
    found = None
    if problem is not None or evaluate is not None:
        losses = ProblemLosses(problem, renew) if problem is not None else FunctionLosses(evaluate)  # pyright: ignore[reportArgumentType]
        found = evaluations(
            models,
            origin,
            losses,
            points=points,
            differences=weights.differences,
            distances=weights.total.distances,
            threads=threads,
            vocab=vocab,
        )
    matrices = {block.name for block in blocks if len(block.shape) > 1 and block.numel}
    ranked = {region.name for region in weights.tensors if region.spectrum is not None}
    unranked = tuple(region.name for region in weights.tensors if region.name in matrices - ranked)
    return Inspection(names, weights, found, unranked, planned.notes)
