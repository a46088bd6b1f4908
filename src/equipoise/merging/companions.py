"""The small files beside a model: configs and tokenizers, copied from the folder that they fit."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from equipoise.merging.fit import tied
from equipoise.merging.plan import Plan
from equipoise.merging.source import Checkpoint, config_of

CONFIG = "config.json"
_DTYPES = ("dtype", "torch_dtype")
_TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "chat_template*",
)
_OTHERS = ("generation_config.json", "preprocessor_config.json", "processor_config.json")


def companions(plan: Plan, config: Mapping[str, Any] | None = None) -> Iterator[tuple[str, Path | str]]:
    """Names with files to copy or text to write.

    Configs are those of the base, or of the first model that is a folder; what config.json says of dtype,
    vocabulary and tied heads is brought up to date, and `config` is put on top. The tokenizer
    is that of a model with as many tokens as the merged one.
    """
    owner, tokenizer = _owners(plan)
    if owner is not None:
        settings = config_of(owner)
        if settings:
            yield CONFIG, json.dumps(_current(settings, plan, owner) | dict(config or {}), indent=2) + "\n"
        yield from _matching(owner, _OTHERS)
    if tokenizer is not None:
        yield from _matching(tokenizer, _TOKENIZER)


def companion_notes(plan: Plan) -> Iterator[str]:
    """What is not copied."""
    owner, tokenizer = _owners(plan)
    if owner is None:
        return
    code = sorted(path.name for path in Path(owner.path).glob("*.py"))
    if code:
        yield f"{owner.path}: code is not copied ({', '.join(code)}); copy it by hand if you trust it"
    if tokenizer is not None and tokenizer is not owner:
        yield f"the tokenizer is that of {tokenizer.path}, which has as many tokens as the merged model"


def _owners(plan: Plan) -> tuple[Checkpoint | None, Checkpoint | None]:
    """The folders that give the configs and the tokenizer."""
    models = [*([plan.base] if plan.base is not None else []), *plan.checkpoints.values()]
    folders = [model for model in models if isinstance(model.path, Path) and model.path.is_dir()]
    if not folders:
        return None, None
    owner = folders[0]
    cut = [match for match in plan.matches if _rows(owner, match.name) not in (None, match.shape[:1])]
    fitting = [one for one in folders if all(_rows(one, match.name) == match.shape[:1] for match in cut)]
    return owner, next(iter(fitting), owner)


def _rows(model: Checkpoint, name: str) -> torch.Size | None:
    return model.shape(name)[:1] if name in model else None


def _current(settings: Mapping[str, Any], plan: Plan, owner: Checkpoint) -> dict[str, Any]:
    """A config, and those within it, with what the merged model has otherwise."""
    sizes: dict[torch.dtype, int] = {}
    for tensor in plan.tensors:
        if tensor.dtype.is_floating_point:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.nbytes
    rows = {
        before[0]: match.shape[0]
        for match in plan.matches
        if len(match.shape) == 2 and (before := _rows(owner, match.name)) not in (None, match.shape[:1])
    }
    heads = [match.name for match in plan.matches if match.name not in owner and tied(owner, match.name)]
    dtype = str(max(sizes, key=lambda kind: sizes[kind])).removeprefix("torch.") if sizes else None

    def now(key: str, value: Any) -> Any:
        if key == "vocab_size" and isinstance(value, int):
            return rows.get(value, value)
        if key == "tie_word_embeddings" and heads:
            return False
        # Where dtypes are mixed, parts may well be stored as their own configs say.
        return dtype if key in _DTYPES and isinstance(value, str) and len(sizes) == 1 else value

    found = _each(settings, now)
    if heads:
        found["tie_word_embeddings"] = False
    keys = [key for key in _DTYPES if key in settings] or ["torch_dtype"]
    return found | (dict.fromkeys(keys, dtype) if dtype else {})


def _each(settings: Mapping[str, Any], now: Callable[[str, Any], Any]) -> dict[str, Any]:
    """Settings, and those within them, with each value made anew."""
    return {
        key: _each(value, now) if isinstance(value, Mapping) else now(key, value)
        for key, value in settings.items()
    }


def _matching(folder: Checkpoint, patterns: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    seen = {path.name: path for pattern in patterns for path in Path(folder.path).glob(pattern)}
    for name, path in sorted(seen.items()):
        if path.is_file() and path.suffix != ".py":
            yield name, path
