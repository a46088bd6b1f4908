"""Whether two tokenizers give the same tokens to the rows that their models share."""

import json
from pathlib import Path

from equipoise.merging.source import Checkpoint

TOKENIZER = "tokenizer.json"


def disagreement(one: Checkpoint, other: Checkpoint, rows: int | None = None) -> str | None:
    """What differs in the tokens of ids below `rows`, in words; None where nothing does, or nothing is known.

    Known are tokenizers of folders with a tokenizer.json. Raises ValueError where one cannot be read.
    """
    paths = [tokenizer_of(one), tokenizer_of(other)]
    if None in paths:
        return None
    contents = [path.read_bytes() for path in paths if path is not None]
    if contents[0] == contents[1]:
        return None
    first, second = (_tokens(path, content) for path, content in zip(paths, contents, strict=True) if path)
    shared = [n for n in first.keys() & second.keys() if rows is None or n < rows]
    wrong = sorted(n for n in shared if first[n] != second[n])
    if not wrong:
        return None
    n = wrong[0]
    return (
        f"the tokenizers of {one.path} and {other.path} differ in {len(wrong)} of {len(shared)} ids: "
        f"id {n} is {first[n]!r} and {second[n]!r}"
    )


def tokenizer_of(checkpoint: Checkpoint) -> Path | None:
    path = checkpoint.path
    found = path / TOKENIZER if isinstance(path, Path) and path.is_dir() else None
    return found if found is not None and found.is_file() else None


def _tokens(path: Path, content: bytes) -> dict[int, str]:
    """Id -> token. A vocabulary is a mapping to ids, or a list of tokens with scores in order."""
    try:
        found = json.loads(content)
        known = found["model"].get("vocab", {})
        if isinstance(known, dict):
            tokens = {n: token for token, n in known.items()}
        else:
            tokens = {n: entry[0] for n, entry in enumerate(known)}
        return tokens | {entry["id"]: entry["content"] for entry in found.get("added_tokens") or ()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a readable tokenizer ({error!r})") from error
