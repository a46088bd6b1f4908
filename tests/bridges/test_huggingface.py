"""The Hugging Face bridge trains for real: as by hand, with what the Trainer adds, and after a stop."""

import json
from collections.abc import Mapping

import pytest
import torch
from tests.bridges.languages import LANGUAGES, gpt2, text, token_losses
from torch import nn
from torch.nn import functional
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback, TrainingArguments

import equipoise
from equipoise.aggregation import MoCo, PCGrad, UPGrad
from equipoise.bridges import JSONLines
from equipoise.bridges.huggingface import RULE_FILE, EquipoiseTrainer
from equipoise.core.tensorfile import TensorFile
from equipoise.scalarization import DWA, FAMO, UncertaintyWeighting

RATE = 1e-2
pytestmark = pytest.mark.usefixtures("data_folder")


class InOrder(EquipoiseTrainer):
    """Takes the samples in their order, for a loop by hand to do the same."""

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)


class Languages(InOrder):
    def compute_losses(self, model, inputs):
        language = inputs.pop("language")
        outputs = model(**inputs)
        each = token_losses(outputs["logits"], inputs["labels"])
        return equipoise.by_group(each, language, LANGUAGES), outputs


def arguments(folder, **options):
    options = {
        "num_train_epochs": 2,
        "save_strategy": "no",
        "logging_steps": 1,
        "max_grad_norm": 0.0,
        **options,
    }
    return TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        per_device_train_batch_size=16,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        report_to="none",
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **options,
    )


def trained(
    folder, rule, *, kind=Languages, resume=None, callbacks=(), observers=(), options=None, **settings
):
    trainer = kind(
        model=gpt2(),
        args=arguments(folder, **settings),
        train_dataset=text(),
        rule=rule,
        observers=observers,
        backward_options=options,
        callbacks=list(callbacks),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def batches(size=16):
    pieces = text()
    for start in range(0, len(pieces), size):
        part = pieces[start : start + size]
        yield {name: torch.stack([piece[name] for piece in part]) for name in part[0]}


def by_hand(rule, *, epochs=2, micro=1, clip=None):
    """The same training as one would write it."""
    model = gpt2()
    decayed = [p for n, p in model.named_parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": [*others, *rule.parameters()]}], lr=RATE, weight_decay=0.0
    )

    def losses(batch):
        logits = model(input_ids=batch["input_ids"]).logits
        return equipoise.by_group(token_losses(logits, batch["labels"]), batch["language"], LANGUAGES)

    for _ in range(epochs):
        whole = list(batches())
        for start in range(0, len(whole), micro):
            window = whole[start : start + micro]
            if micro == 1:
                step = equipoise.backward(losses(window[0]), rule, parameters=model)
            else:
                accumulator = equipoise.Accumulator(rule, parameters=model)
                for batch in window:
                    accumulator.add(losses(batch))
                step = accumulator.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()

            def after(window=window):
                with torch.no_grad():
                    return {k: v for k, v in losses(window[-1]).items() if v is not None}

            rule.update(step, after, epoch_ended=start + micro >= len(whole))
    return model


def same(one, other, rtol=1e-4):
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=1e-5, msg=name)


@pytest.mark.parametrize("rule", [UPGrad, MoCo, DWA, FAMO, UncertaintyWeighting], ids=lambda r: r.__name__)
def test_languages_are_trained_as_by_a_loop_by_hand(tmp_path, rule):
    """In the last batch of each epoch only German is there."""
    trainer = trained(tmp_path, rule())
    same(trainer.model, by_hand(rule()))
    told = [one for one in trainer.state.log_history if "loss" in one]
    assert told[-1]["loss"] < told[0]["loss"]
    assert {"equipoise/loss/de", "equipoise/weight/de"} <= told[-1].keys()


def test_clipping_acts_on_the_combined_gradient(tmp_path):
    same(trained(tmp_path, UPGrad(), max_grad_norm=0.1).model, by_hand(UPGrad(), clip=0.1))


class Even(Languages):
    """Two languages that are in every batch."""

    def compute_losses(self, model, inputs):
        found, outputs = super().compute_losses(model, inputs)
        return {"de": found["de"], "all": outputs["loss"]}, outputs


def test_micro_batches_are_combined_once(tmp_path):
    settings = {"gradient_accumulation_steps": 3, "max_steps": 4}
    trainer = trained(tmp_path, UPGrad(), kind=Even, **settings)
    model, rule = gpt2(), UPGrad()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    windows = list(batches()) * 2
    for start in range(0, 12, 3):
        accumulator = equipoise.Accumulator(rule, parameters=model)
        for batch in windows[start : start + 3]:
            outputs = model(input_ids=batch["input_ids"], labels=batch["labels"])
            each = token_losses(outputs.logits, batch["labels"])
            accumulator.add({"de": each[batch["language"] == 0].mean(), "all": outputs.loss})
        accumulator.backward()
        optimizer.step()
        optimizer.zero_grad()
    same(trainer.model, model)
    assert trainer.state.global_step == 4


@pytest.mark.parametrize("rule", [MoCo, FAMO, DWA, UncertaintyWeighting, PCGrad], ids=lambda r: r.__name__)
def test_a_run_that_was_stopped_goes_on_with_the_same_weights(tmp_path, rule):
    whole = trained(tmp_path / "whole", rule(), num_train_epochs=2)

    class Stop(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            control.should_training_stop = True

    saving = {"save_strategy": "steps", "save_steps": 7}
    log = tmp_path / "steps.jsonl"
    trained(tmp_path / "stopped", rule(), callbacks=[Stop()], observers=JSONLines(log), **saving)
    folder = tmp_path / "stopped" / "checkpoint-7"
    assert TensorFile(folder / RULE_FILE)["step"] == 7
    again = trained(tmp_path / "stopped", rule(), resume=str(folder), observers=JSONLines(log), **saving)
    same(again.model, whole.model, rtol=1e-6)
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [one["step"] for one in records if "equipoise/loss/de" in one] == list(range(12))


class Masked(InOrder):
    """A BERT whose head names the masked bytes, and another head the language: two losses in its outputs."""


def bert():
    from transformers import BertConfig, BertModel

    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            size = {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
            }
            self.encoder = BertModel(BertConfig(vocab_size=257, max_position_embeddings=32, **size))
            self.bytes, self.language = nn.Linear(16, 256), nn.Linear(16, len(LANGUAGES))

        def forward(self, input_ids, labels, language):
            hidden = torch.arange(input_ids.shape[1]) % 5 == 2
            seen = self.encoder(input_ids.masked_fill(hidden, 256)).last_hidden_state
            masked = functional.cross_entropy(
                self.bytes(seen[:, hidden]).flatten(0, 1), labels[:, hidden].flatten()
            )
            told = functional.cross_entropy(self.language(seen.mean(1)), language)
            return {"losses": {"masked": masked, "language": told}, "loss": masked + told}

    return TwoHeads()


def test_a_model_that_gives_losses_needs_no_method(tmp_path):
    trainer = Masked(
        model=bert(), args=arguments(tmp_path, num_train_epochs=6), train_dataset=text(), rule=UPGrad()
    )
    trainer.train()
    told = [one for one in trainer.state.log_history if "equipoise/loss/masked" in one]
    assert told[-1]["equipoise/loss/masked"] < told[0]["equipoise/loss/masked"]
    assert told[-1]["equipoise/loss/language"] < told[0]["equipoise/loss/language"]
    assert trainer.last_step.gramian is not None


def experts():
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    return MixtralForCausalLM(
        MixtralConfig(
            vocab_size=256, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, output_router_logits=True,
            router_aux_loss_coef=0.1, max_position_embeddings=32,
        )
    )  # fmt: skip


class Experts(InOrder):
    def compute_losses(self, model, inputs):
        inputs.pop("language")
        return super().compute_losses(model, inputs)


def test_the_balancing_loss_of_experts_is_an_objective_and_counted_once(tmp_path):
    trainer = Experts(
        model=experts(), args=arguments(tmp_path, max_steps=3), train_dataset=text(), rule=UPGrad()
    )
    trainer.train()
    assert trainer.last_step.names == ("loss", "balance")
    batch = next(iter(batches()))
    batch.pop("language")
    model = experts()
    found, outputs = trainer.compute_losses(model, {**batch, "language": None})
    assert float(found["balance"]) == pytest.approx(0.1 * float(outputs["aux_loss"]))
    assert float(found["loss"] + found["balance"]) == pytest.approx(float(outputs["loss"]))


def test_a_student_learns_from_text_and_teacher(tmp_path):
    teacher = gpt2().eval()

    class Distilled(InOrder):
        def compute_losses(self, model, inputs):
            inputs.pop("language")
            outputs = model(**inputs)
            with torch.no_grad():
                wanted = teacher(input_ids=inputs["input_ids"]).logits.softmax(-1)
            taught = functional.cross_entropy(outputs["logits"].flatten(0, 1), wanted.flatten(0, 1))
            return {"text": outputs["loss"], "teacher": taught}, outputs

    trainer = trained(tmp_path, UPGrad(), kind=Distilled, max_steps=6)
    assert trainer.last_step.names == ("text", "teacher")
    assert trainer.last_step.conflict().share == 1.0


def test_bfloat16(tmp_path):
    trainer = trained(tmp_path, UPGrad(), bf16=True)
    told = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    assert told[-1] < told[0]


def test_checkpointing_of_activations(tmp_path):
    plain = trained(tmp_path, UPGrad(), max_steps=3)
    saved = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    same(trained(tmp_path, UPGrad(), max_steps=3, **saved).model, plain.model)


def test_evaluation_is_the_trainers_own(tmp_path):
    trainer = trained(tmp_path, UPGrad(), max_steps=2)
    seen = trainer.evaluate(text(32))
    assert seen["eval_loss"] > 0
    assert not any(key.startswith("equipoise") for key in seen)


def test_what_does_not_fit_is_refused(tmp_path):
    options = {"model": gpt2(), "args": arguments(tmp_path), "train_dataset": text()}
    with pytest.raises(TypeError, match="is no rule"):
        Languages(**options, rule=UPGrad)
    with pytest.raises(
        ValueError, match=r"finds no several losses in the outputs of GPT2LMHeadModel \(.*logits"
    ):
        Experts(**options, rule=UPGrad()).train()
    options["args"] = arguments(tmp_path, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="gradient_accumulation_steps is 2, with which max_memory cannot go"):
        Languages(**options, rule=UPGrad(), backward_options={"max_memory": "1GiB"})
    with pytest.raises(ValueError, match="MoCo transforms the rows"):
        Languages(**options, rule=MoCo())


def test_groups_of_samples_by_label_or_name():
    losses = torch.tensor([1.0, 3.0, 5.0])
    found = equipoise.by_group(losses, torch.tensor([7, 7, 9]), {7: "old", 9: "new"})
    assert isinstance(found, Mapping)
    assert {name: float(value) for name, value in found.items()} == {"old": 2.0, "new": 5.0}
    with pytest.raises(ValueError, match="no name for the labels 'it'"):
        equipoise.by_group(losses, ["de", "it", "de"], ("de", "fr"))
    with pytest.raises(ValueError, match="there are 1 labels: one for each"):
        equipoise.by_group(losses, ["de"], ("de", "fr"))
