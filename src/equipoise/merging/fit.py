"""Whether a model can be merged: whole weights in floating point, neither an adapter nor packed."""

import re
from collections.abc import Iterator, Mapping
from math import prod

from equipoise.merging.report import several
from equipoise.merging.source import Checkpoint, config_of

_ADAPTER = re.compile(r"(^|\.)(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|hada_w[12]_[ab])(\.|$)")
_PACKED = re.compile(
    r"\.(qweight|qzeros|weight_packed|SCB|absmax|quant_map|nested_absmax|quant_state[.\w]*"
    r"|weight_scale|weight_scale_inv)$"
)
_WRAPPERS = ("_orig_mod.", "module.", "base_model.model.")


def unfit(file: Checkpoint) -> Iterator[str]:
    """Why a file cannot be merged at all."""
    stored = any(path.name.startswith("adapter_model") for path in file.files)
    if adapters := [name for name in file if stored or _ADAPTER.search(name)]:
        yield (
            f"{file.path}: an adapter ({several(adapters)}), not a model; merge it into its base first, "
            "as by peft's model.merge_and_unload().save_pretrained(...)"
        )
        return
    packed = [name for name in file if _PACKED.search(name) or _integers(file, name)]
    config = config_of(file).get("quantization_config")
    if packed or config:
        seen = several(packed) if packed else "quantization_config in config.json"
        yield (
            f"{file.path}: quantised weights ({seen}); their numbers mean something with their scales only: "
            "name a model in floating point"
        )
        return
    for name in file:
        try:
            if file.dtype(name).is_complex:
                yield f"{file.path}: tensor {name!r} is {file.dtype(name)}; only real numbers are merged"
        except ValueError as error:
            yield str(error)


def _integers(file: Checkpoint, name: str) -> bool:
    if not name.endswith("weight"):
        return False
    try:
        return not (file.dtype(name).is_floating_point or file.dtype(name).is_complex) and (
            len(file.shape(name)) > 1 or prod(file.shape(name)) > 1
        )
    except ValueError:
        return False


def prefix(extra: list[str], lost: list[str]) -> tuple[str, str, str] | None:
    """What stands in the extra names and not in those that are lost, with one of each, if that is all.

    >>> prefix(["module.a.w", "module.b.w"], ["a.w", "b.w"])
    ('module.', 'module.a.w', 'a.w')
    """
    if not extra or not lost:
        return None
    known, first = set(lost), extra[0]
    begins = [first[: first.index(".", at) + 1] for at in range(len(first)) if first.startswith(".", at)]
    for words in dict.fromkeys([*_WRAPPERS, *reversed(begins)]):
        plain = {name: name.replace(words, "", 1) for name in extra if words in name}
        hits = {name: short for name, short in plain.items() if short in known}
        if 2 * len(hits) > max(len(extra), len(lost)):
            name = next(iter(hits))
            return words, name, hits[name]
    return None


_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|shared)\.weight$")


def tied(file: Checkpoint, head: str) -> str | None:
    """The embedding of a model whose head is tied to it, where `head` is the name of a head.

    It is where config.json says so, or where a language model stores no head at all.
    """
    if not _HEAD.search(head):
        return None
    config = config_of(file)
    parts = [config, *(part for part in config.values() if isinstance(part, Mapping))]
    stated = [part["tie_word_embeddings"] for part in parts if "tie_word_embeddings" in part]
    kinds = config.get("architectures") or ()
    speaks = any(str(kind).endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds)
    if not (any(stated) if stated else speaks and not any(_HEAD.search(name) for name in file)):
        return None
    found = [name for name in file if _EMBEDDING.search(name)]
    return found[0] if len(found) == 1 else None
