"""Models that transformers wrote are merged, and transformers reads the merged folder."""

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedConfig, PreTrainedModel

from equipoise.core.tensorfile import TensorFile
from equipoise.merging import Average, MergeRule, TaskArithmetic, merge
from equipoise.merging.methods import method_named

LANGUAGES = ("de", "fr", "pl")
LENGTH = 48
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "gpt2": lambda: GPT2Config(
        vocab_size=256, n_positions=LENGTH, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    ),
    "llama": lambda: LlamaConfig(
        vocab_size=256,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=False,
    ),
}


def text(data_folder: Path, language: str, part: str) -> Tensor:  # -> (n, LENGTH)
    """Pieces of a language's bytes."""
    with gzip.open(data_folder / "text_cv40" / f"{language}.{part}.txt.gz") as file:
        found = torch.frombuffer(bytearray(file.read(200 * LENGTH)), dtype=torch.uint8).long()
    return found[: len(found) // LENGTH * LENGTH].view(-1, LENGTH)


def tuned(folder: Path, pieces: Tensor, steps: int = 40) -> PreTrainedModel:
    """The model in a folder after a few steps on pieces of text."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = pieces[torch.randint(len(pieces), (16,), generator=draw)]
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def losses(folder: Path, data_folder: Path) -> list[float]:
    """Of a model in a folder, by language, in nats a byte."""
    found: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    model, report = found
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    held = (text(data_folder, language, "test") for language in LANGUAGES)
    return [model(input_ids=pieces, labels=pieces).loss.item() for pieces in held]


@pytest.fixture(scope="module", params=CONFIGS)
def folders(request, tmp_path_factory, data_folder) -> Path:
    """A folder with a random `base` and a model of it for each language; the last one lies in shards."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(CONFIGS[request.param]()).save_pretrained(folder / "base")
    for language in LANGUAGES:
        model = tuned(folder / "base", text(data_folder, language, "train"))
        size = "60KB" if language == LANGUAGES[-1] else "50GB"
        model.save_pretrained(folder / language, max_shard_size=size)
    return folder


def merged(folders: Path, method: MergeRule, languages: Sequence[str] = LANGUAGES) -> Path:
    """A new folder with the models of some languages merged."""
    out = folders / f"{type(method).__name__}-{uuid4().hex}"
    merge([folders / language for language in languages], folders / "base", method=method, out=out)
    return out


def test_the_last_model_lies_in_shards(folders):
    assert len(list((folders / LANGUAGES[-1]).glob("*.safetensors"))) > 1
    assert len(list((folders / LANGUAGES[0]).glob("*.safetensors"))) == 1


def test_the_average_loads_and_is_better_than_the_base_in_every_language(folders, data_folder):
    before = losses(folders / "base", data_folder)
    after = losses(merged(folders, Average()), data_folder)
    assert all(new < old for new, old in zip(after, before, strict=True))


@pytest.mark.parametrize("method", ["TaskArithmetic", "TIES"])
def test_other_methods_give_folders_that_load(folders, data_folder, method):
    found = torch.tensor(losses(merged(folders, method_named(method)), data_folder))
    assert found.isfinite().all()


def test_one_model_at_scale_one_comes_back_and_predicts_the_same(folders, data_folder):
    """theta_0 + (theta_1 - theta_0), rounded once: the largest value is 1, so 2^-23 at most."""
    out = merged(folders, TaskArithmetic(), LANGUAGES[:1])
    given, back = (AutoModelForCausalLM.from_pretrained(folder) for folder in (folders / LANGUAGES[0], out))
    for (name, a), (_, b) in zip(given.named_parameters(), back.named_parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=2**-22, atol=2**-23, msg=name)
    known, found = (torch.tensor(losses(folder, data_folder)) for folder in (folders / LANGUAGES[0], out))
    torch.testing.assert_close(found, known, rtol=1e-5, atol=0)


def test_tied_weights_are_written_once_and_are_tied_when_read(folders):
    out = merged(folders, Average())
    written, base = (TensorFile(folder / "model.safetensors") for folder in (out, folders / "base"))
    assert set(written) == set(base)
    model = AutoModelForCausalLM.from_pretrained(out)
    entry, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert head is not None
    assert (entry.weight is head.weight) == model.config.tie_word_embeddings
