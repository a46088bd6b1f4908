"""calibrate: Gram matrices of inputs and diagonal Fisher information of a model, from a few batches."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.core.samples import sample_gradients
from equipoise.merging.inputgrams import InputGrams
from equipoise.merging.statistics import (
    Kind,
    check_kind_names,
    fingerprint,
    under_all_names,
    write_statistics,
)

Labels = Literal["drawn", "given"]
_IGNORED = -100  # by `cross_entropy`


def calibrate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    kinds: Sequence[Kind] = ("gram", "fisher"),
    loss: Callable[[Any, Any], Tensor] | None = None,
    labels: Labels | None = None,
    samples: int | None = None,
    out: str | Path | None = None,
    chunk: int = 16,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> dict[Kind, dict[str, Tensor]]:
    """Measure a model for the methods that weigh parameters by data: kind -> parameter -> statistics.

    "gram": G = sum X^T X over the rows X that enter each linear layer or convolution, for RegMean; keyed by
    the weight (see `InputGrams`). "fisher": the mean over samples x of (d log p(y|x) / d theta)^2, squared
    sample by sample, for Fisher; keyed by parameter, trainable ones only. Tied parameters stand under all
    their names.

    batches: inputs, or (inputs, targets); inputs are a tensor, a tuple of positional arguments or a mapping
    of keyword arguments, of which "labels" counts as targets. labels: "drawn" draws y from the model's own
    soft-max over the last axis (the true Fisher information), "given" takes the targets (the empirical one).
    loss(output, targets) is -log p(y|x) of one sample, a batch of one; without it the cross-entropy, summed
    over the places of a sample. Targets are of the same places as the logits, but where a model of
    transformers foretells the next token, they are the tokens, as its own loss takes them. Places with
    target -100 do not count, and no labels are drawn where the attention_mask is 0. A loss asks for given
    labels. samples: stop after so many. chunk: samples whose gradients are held at once; 1 also serves models
    that `torch.func.vmap` does not know. dtype: that of the sums. out: also write `<out>.gram.safetensors`
    and `<out>.fisher.safetensors`, each atomically, with kind, samples and a hash of the model in their
    headers.

    The model is measured in evaluation mode; its mode, buffers and gradients stay as they are. Give models
    that are to be merged equally many samples each: Gram matrices are sums.

    Raises ValueError for unknown kinds, batches without samples, missing targets, and what `InputGrams` and
    `sample_gradients` refuse; FileNotFoundError, before anything is measured, where `out` has no folder.

    Source: Jin et al., ICLR 2023 (RegMean); Matena and Raffel, NeurIPS 2022 (Fisher, labels drawn).

    >>> model = nn.Linear(2, 2, bias=False)
    >>> found = calibrate(model, [torch.eye(2)], kinds=("gram",))
    >>> found["gram"]["weight"].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    check_kind_names(kinds)
    labels = labels or ("given" if loss is not None else "drawn")
    if loss is not None and labels == "drawn":
        raise ValueError('a loss asks for given labels; labels="drawn" draws them from the soft-max')
    if (samples is not None and samples < 1) or chunk < 1:
        raise ValueError(f"samples is {samples} and chunk {chunk}; both must be at least 1")
    if out is not None and not Path(out).parent.is_dir():
        raise FileNotFoundError(f"cannot write {out}: there is no folder {Path(out).parent}")
    grams = InputGrams(model, dtype) if "gram" in kinds else None
    fisher = _Fisher(model, loss, labels, chunk, seed, dtype)
    seen = 0
    with evaluating(model):
        for inputs, targets, n in limited(batches, samples):
            seen += n
            if grams is not None:
                with grams, torch.no_grad():
                    _outputs(model, inputs)
            if "fisher" in kinds:
                fisher.add(inputs, targets, n)
    found: dict[Kind, dict[str, Tensor]] = {}
    if grams is not None:
        found["gram"] = under_all_names(model, grams.grams())
    if "fisher" in kinds:
        found["fisher"] = under_all_names(model, fisher.mean(seen))
    if out is not None:
        facts = {"samples": seen, "model": fingerprint(model.state_dict())}
        own = {"gram": {"left_out": grams.left_out if grams else {}}, "fisher": {"labels": labels}}
        for kind, tensors in found.items():
            write_statistics(f"{out}.{kind}.safetensors", kind, tensors, facts | own[kind])
    return found


class _Fisher:
    """Sums of squared gradients of single samples."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], Tensor] | None,
        labels: Labels,
        chunk: int,
        seed: int,
        dtype: torch.dtype,
    ) -> None:
        self.model = model
        self.loss = loss or _cross_entropy
        encoded = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
        self.shifted = loss is None and not encoded and _generates(model)
        self.mask = "decoder_attention_mask" if encoded else "attention_mask"
        self.labels = labels
        self.chunk = chunk
        self.dtype = dtype
        self.generator = torch.Generator().manual_seed(seed)
        self.sums: dict[str, Tensor] = {}

    def add(self, inputs: Any, targets: Any, n: int) -> None:
        if self.shifted and isinstance(targets, Tensor) and targets.dim() > 1:
            targets = functional.pad(targets[:, 1:], (0, 1), value=_IGNORED)
        if self.labels == "drawn":
            with torch.no_grad():
                drawn = self._drawn(_logits(_outputs(self.model, inputs)))
            mask = inputs.get(self.mask) if isinstance(inputs, Mapping) else None
            for known, left_out in ((targets, _IGNORED), (mask, 0)):
                if isinstance(known, Tensor) and known.shape == drawn.shape:
                    drawn = drawn.masked_fill(known.to(drawn.device) == left_out, _IGNORED)
            targets = drawn
        elif targets is None:
            raise ValueError('labels="given" asks for batches of (inputs, targets); a batch had inputs alone')
        for start in range(0, n, self.chunk):
            part = slice(start, min(start + self.chunk, n))
            some, wanted = each(lambda x, at=part: x[at], inputs), each(lambda x, at=part: x[at], targets)
            found = sample_gradients(
                self.model, self.loss, some, wanted, chunk=1 if self.chunk == 1 else None
            )
            for name, rows in found.blocks.items():
                squares = rows.to(self.dtype).square().sum(0)
                self.sums[name] = self.sums[name] + squares if name in self.sums else squares

    def mean(self, samples: int) -> dict[str, Tensor]:
        return {name: total / samples for name, total in self.sums.items()}

    def _drawn(self, logits: Tensor) -> Tensor:  # (n, *places, classes) -> (n, *places)
        shares = logits.softmax(-1).cpu().double().reshape(-1, logits.shape[-1])
        drawn = torch.multinomial(shares, 1, generator=self.generator)
        return drawn.reshape(logits.shape[:-1]).to(logits.device)


def _generates(model: nn.Module) -> bool:
    """Whether it is a model of transformers that gives the logits of the next token."""
    asked = getattr(model, "can_generate", None)
    return callable(asked) and bool(asked())


def _cross_entropy(output: Any, targets: Tensor) -> Tensor:
    logits = _logits(output)
    return functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="sum"
    )


def _logits(output: Any) -> Tensor:
    found = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(found, Tensor) or found.dim() < 2:
        raise ValueError(
            f"the model gives {type(output).__name__}, not logits (n, classes); "
            "give a loss of its output and the targets, or wrap the model"
        )
    return found


def _outputs(model: nn.Module, inputs: Any) -> Any:
    match inputs:
        case Mapping():
            return model(**inputs)
        case tuple() | list():
            return model(*inputs)
    return model(inputs)


def limited(batches: Iterable[Any], samples: int | None) -> Iterator[tuple[Any, Any, int]]:
    """Inputs, targets and size of each batch, until there are enough samples."""
    seen = 0
    for batch in batches:
        inputs, targets = _split(batch)
        n = size_of(inputs)
        kept = n if samples is None else min(n, samples - seen)
        if kept < n:
            inputs, targets = each(lambda x, k=kept: x[:k], inputs), each(lambda x, k=kept: x[:k], targets)
        seen += kept
        if kept:
            yield inputs, targets, kept
        if samples is not None and seen >= samples:
            return
    if not seen:
        raise ValueError("the batches hold no sample; give some inputs to measure the model on")


def _split(batch: Any) -> tuple[Any, Any]:
    match batch:
        case Mapping():
            return {key: value for key, value in batch.items() if key != "labels"}, batch.get("labels")
        case (inputs, targets):
            return inputs, targets
        case tuple() | list():
            raise ValueError(f"a batch has {len(batch)} parts; give inputs, or (inputs, targets)")
    return batch, None


def size_of(tree: Any) -> int:
    """The number of samples: the length of the first axis of the first tensor."""
    match tree:
        case Tensor() if tree.dim():
            return len(tree)
        case Mapping() if tree:
            return size_of(next(iter(tree.values())))
        case tuple() | list() if tree:
            return size_of(tree[0])
    raise ValueError(f"a batch holds {type(tree).__name__} where tensors with samples on axis 0 are meant")


def each(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """A batch with a function done to each of its tensors that has an axis."""
    match tree:
        case Tensor():
            return function(tree) if tree.dim() else tree
        case Mapping():
            return {key: each(function, value) for key, value in tree.items()}
        case tuple() | list():
            return tuple(each(function, value) for value in tree)
    return tree


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode within, and in its own again afterwards."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
