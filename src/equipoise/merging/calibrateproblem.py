"""calibrate_problem: statistics of experts from the problem that they were trained on."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.core.errors import unknown
from equipoise.core.problem import Problem, Split
from equipoise.merging.calibrate import each, evaluating, size_of
from equipoise.merging.inputgrams import InputGrams
from equipoise.merging.merge import Model, opened
from equipoise.merging.statistics import (
    Kind,
    check_kind_names,
    fingerprint,
    under_all_names,
    write_statistics,
)


def calibrate_problem(
    problem: Problem,
    checkpoints: Mapping[str, Model],
    out: str | Path,
    *,
    kinds: Sequence[Kind] = ("gram", "fisher"),
    samples: int = 256,
    split: Split = "train",
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> dict[Kind, dict[str, Path]]:
    """Measure each expert on the data of its objective, into the folder `out`: kind -> model -> path.

    What comes back for a kind is what `merge` takes as `statistics`. The convention: a model is named as the
    objective that it is an expert in. Expert i runs on batches of `split`, in an order drawn from `seed`, as
    `problem.losses` runs them; a batch that is a mapping with that objective among its keys is cut down to
    this entry, so that only the expert's own inputs enter; batches from which the objective is absent are
    passed over. Its loss is taken as the mean of -log p(y|x), and the Fisher information is the empirical
    one, gradient by gradient of batches of one: every tensor of a batch has samples on its first axis.

    Raises ValueError for a model that is no objective and one that does not fit `problem.model()`, before
    anything is measured, and for an objective that no batch holds.

    Source: Jin et al., ICLR 2023 (RegMean); Matena and Raffel, NeurIPS 2022 (Fisher).
    """
    check_kind_names(kinds)
    for name in checkpoints:
        if name not in problem.objectives:
            raise ValueError(f"{unknown('objective', name, problem.objectives)}; name models as objectives")
    if samples < 1:
        raise ValueError(f"samples is {samples}; it must be at least 1")
    models = opened(checkpoints)
    problem.prepare()
    model = _model(problem, seed)
    for name, checkpoint in models.items():
        load(model, checkpoint, name)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    paths: dict[Kind, dict[str, Path]] = {kind: {} for kind in kinds}
    for name, checkpoint in models.items():
        model = _model(problem, seed)
        load(model, checkpoint, name)
        grams = InputGrams(model, dtype) if "gram" in kinds else None
        squares: dict[str, Tensor] = {}
        seen = 0
        with evaluating(model):
            for batch, n in _batches(problem, model, name, split, samples, seed):
                seen += n
                if grams is not None:
                    with grams, torch.no_grad():
                        problem.losses(model, batch)
                if "fisher" in kinds:
                    _add_squares(squares, problem, model, name, batch, n, dtype)
        if not seen:
            raise ValueError(f"no batch of {split} holds the objective {name}; nothing was measured")
        facts = {"samples": seen, "model": fingerprint(model.state_dict()), "objective": name}
        for kind in kinds:
            path = folder / f"{name}.{kind}.safetensors"
            if kind == "gram" and grams is not None:
                found, own = grams.grams(), {"left_out": grams.left_out}
            else:
                found, own = {key: total / seen for key, total in squares.items()}, {"labels": "given"}
            write_statistics(path, kind, under_all_names(model, found), {**facts, **own})
            paths[kind][name] = path
    return paths


def load(model: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Load tensors into a model; raises ValueError naming the checkpoint where they do not fit."""
    try:
        model.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise ValueError(f"{name} does not fit {type(model).__name__}: {error}") from error


def _model(problem: Problem, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return problem.model()


def _batches(
    problem: Problem, model: nn.Module, name: str, split: Split, samples: int, seed: int
) -> Iterator[tuple[Any, int]]:
    """The batches of an objective, cut to the samples that are wanted, with their sizes."""
    seen = 0
    for batch in problem.batches(split, torch.Generator().manual_seed(seed)):
        if isinstance(batch, Mapping) and any(one in batch for one in problem.objectives):
            if name not in batch:
                continue
            batch = {key: value for key, value in batch.items() if key == name}
        n = size_of(batch)
        kept = min(n, samples - seen)
        batch = each(lambda x, k=kept, n=n: x[:k] if len(x) == n else x, batch)
        with torch.no_grad():
            present = name in problem.losses(model, batch)
        if present:
            seen += kept
            yield batch, kept
        if seen >= samples:
            return


def _add_squares(
    squares: dict[str, Tensor],
    problem: Problem,
    model: nn.Module,
    name: str,
    batch: Any,
    n: int,
    dtype: torch.dtype,
) -> None:
    parameters = {key: p for key, p in model.named_parameters() if p.requires_grad}
    for i in range(n):
        one = each(lambda x, i=i: x[i : i + 1] if len(x) == n else x, batch)
        loss = problem.losses(model, one)[name]
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for (key, p), gradient in zip(parameters.items(), found, strict=True):
            square = torch.zeros_like(p) if gradient is None else gradient
            square = square.detach().to(dtype).square()
            squares[key] = squares[key] + square if key in squares else square
