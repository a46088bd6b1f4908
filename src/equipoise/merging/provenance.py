"""What a merged model says of itself: metadata in its files, and a model card."""

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

import equipoise
from equipoise.core.card import Card, card
from equipoise.merging.mergerule import MergeRule
from equipoise.merging.plan import Plan
from equipoise.merging.source import Checkpoint, config_of

Hashes = Literal["sampled", "whole"]
"""What is hashed of a source: its length, header and samples, or all of it, which costs a read."""

SAMPLES = 64
SAMPLE = 4096
_HASHED = {
    "sampled": f"SHA-256 of length, header and {SAMPLES} samples of {SAMPLE} bytes",
    "whole": "SHA-256 of the whole file",
}
_STEP = 1 << 22


def metadata(plan: Plan, hashes: Hashes = "sampled") -> dict[str, str]:
    """Method, options, weights, sources and version, as text for the header of a safetensors file.

    The same models and options give the same text: no time and no path of a machine stand in it.
    """
    found = {
        "equipoise": equipoise.__version__,
        "method": _json(
            [
                {**described(rule), "tensors": len({block.name for block in blocks})}
                for rule, blocks in plan.by_rule()
            ],
        ),
        "models": _json([_source(name, file, hashes) for name, file in plan.checkpoints.items()]),
        "hashes": _HASHED[hashes],
    }
    if plan.base is not None:
        found["base"] = _json(_source("base", plan.base, hashes))
    return found


def described(rule: MergeRule) -> dict[str, Any]:
    """A rule by name and options, rules within it too."""
    return {
        "name": type(rule).__name__,
        "options": {field.name: _plain(getattr(rule, field.name)) for field in fields(rule)},  # pyright: ignore[reportArgumentType]
    }


def digest(path: Path, hashes: Hashes = "sampled") -> str:
    """The SHA-256 of a file, or of its length, its safetensors header and samples spread evenly over it.

    What begins otherwise than safetensors do is taken as a file without a header.
    """
    found = hashlib.sha256()
    with path.open("rb") as file:
        if hashes == "whole":
            while content := file.read(_STEP):
                found.update(content)
            return found.hexdigest()
        size = os.fstat(file.fileno()).st_size
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        length = length if 8 + length <= size else 0
        found.update(struct.pack("<Q", size) + head + file.read(length))
        for i in range(SAMPLES):
            file.seek(8 + length + max(0, size - 8 - length - SAMPLE) * i // (SAMPLES - 1))
            found.update(file.read(SAMPLE))
    return found.hexdigest()


def model_card(plan: Plan, title: str, said: Mapping[str, str]) -> str:
    """The README.md of a merged model; `said` is its metadata."""
    rules = [rule for rule, _ in plan.by_rule()]
    kinds = list(dict.fromkeys(kind for rule in rules for kind in _kinds(rule)))
    files = [*([("base", plan.base)] if plan.base is not None else []), *plan.checkpoints.items()]
    head = ["---"]
    if hub := list(dict.fromkeys(id_ for _, file in files if (id_ := _hub_id(file)))):
        head += ["base_model:", *(f"- {_json(id_)}" for id_ in hub)]
    if any(config_of(file) for _, file in files):
        head.append("library_name: transformers")
    head += ["tags:", "- merge", "- equipoise", *(f"- {kind.lower()}" for kind in kinds), "---"]
    sources = [*([json.loads(said["base"])] if "base" in said else []), *json.loads(said["models"])]
    body = [
        f"# {title}",
        "",
        f"One model merged from {len(plan.names)} by Equipoise {said['equipoise']}.",
        "",
        "| | file | bytes | SHA-256 |",
        "| --- | --- | --- | --- |",
        *(
            f"| {one['name']} | {file['file']} | {file['bytes']} | `{file['sha256']}` |"
            for one in sources
            for file in one["files"] or [{"file": "in memory", "bytes": "", "sha256": ""}]
        ),
        "",
        f"Hashes are {said['hashes']}.",
        "",
        "## Method",
        "",
        "```json",
        json.dumps(json.loads(said["method"]), indent=2, ensure_ascii=False),
        "```",
    ]
    if plan.notes:
        body += ["", "## Notes", "", *(f"- {_without_paths(note, files)}" for note in plan.notes)]
    if cited := [_cited(known) for kind in kinds if (known := card("merging", kind)) is not None]:
        body += ["", "## To cite", "", *(f"- {line}" for line in cited)]
    return "\n".join([*head, "", *body, ""])


def _source(name: str, file: Checkpoint, hashes: Hashes) -> dict[str, Any]:
    return {
        "name": name,
        "model": _called(file),
        "files": [
            {"file": path.name, "bytes": path.stat().st_size, "sha256": digest(path, hashes)}
            for path in file.files
        ],
    }


def _called(file: Checkpoint) -> str:
    """What a model is called: its id on the Hub where that is known, else the last part of its path."""
    if isinstance(file.path, str):  # a name already
        return file.path
    return _hub_id(file) or Path(os.path.abspath(file.path)).name


def _hub_id(file: Checkpoint) -> str:
    """`owner/name` of what lies in the cache of the Hub, which names folders by it; else nothing is known."""
    cached = [part for part in Path(file.path).parts if part.startswith("models--")]
    return cached[-1].removeprefix("models--").replace("--", "/") if cached else ""


def _without_paths(note: str, files: Sequence[tuple[str, Checkpoint]]) -> str:
    """A note in which models stand by their names, not by where they lie."""
    names = {str(file.path): name for name, file in files if str(file.path) != Path(file.path).name}
    if not names:
        return note
    longest = "|".join(re.escape(path) for path in sorted(names, key=len, reverse=True))
    return re.sub(rf"(?<![\w./\\-])(?:{longest})(?![\w-]|\.\w)", lambda found: names[found[0]], note)


def _kinds(rule: MergeRule) -> Iterator[str]:
    yield type(rule).__name__
    for field in fields(rule):  # pyright: ignore[reportArgumentType]
        if isinstance(inner := getattr(rule, field.name), MergeRule):
            yield from _kinds(inner)


def _cited(card: Card) -> str:
    who = (
        ", ".join(card.authors[:-1]) + " and " + card.authors[-1]
        if len(card.authors) > 1
        else "".join(card.authors)
    )
    where = f"{card.venue} {card.year}".strip()
    return f"{card.name}: {who}, *{card.title}*, {where}" + (f", arXiv:{card.arxiv}" if card.arxiv else "")


def _plain(value: Any) -> Any:
    if isinstance(value, MergeRule):
        return described(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
