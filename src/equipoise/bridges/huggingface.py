"""Hugging Face: a mixin for `transformers.Trainer` by which several named losses are combined by a rule."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from equipoise.bridges.tracker import PREFIX, Tracker
from equipoise.core.accumulate import Accumulator
from equipoise.core.backward import backward
from equipoise.core.observer import Observers, as_observers
from equipoise.core.optional import require
from equipoise.core.rule import Rule
from equipoise.core.scalars import scalars
from equipoise.core.step import Step
from equipoise.core.tensorfile import TensorFile, write_tensors
from equipoise.core.undisturbed import undisturbed
from equipoise.core.world import averaged

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback
else:
    _transformers = require("transformers", "hf")
    require("accelerate", "hf")
    Trainer, TrainerCallback = _transformers.Trainer, _transformers.TrainerCallback

Named = Mapping[str, Tensor | None]
RULE_FILE = "equipoise_rule.safetensors"
"""The rule's state in a checkpoint folder of the Trainer."""


class EquipoiseTrainer(Trainer):
    """A `transformers.Trainer` of models with several losses, which a rule combines.

    ```python
    class Languages(EquipoiseTrainer):
        def compute_losses(self, model, inputs):
            language = inputs.pop("language")
            outputs = model(**inputs)
            each = token_losses(outputs, inputs["labels"])      # (n,), one loss for each sample
            return equipoise.by_group(each, language, ("de", "fr", "tr")), outputs

    Languages(model=model, args=args, train_dataset=data, rule=UPGrad()).train()
    ```

    Before a subclass of Trainer it is a mixin: `class Mine(EquipoiseTrainer, Seq2SeqTrainer)`. The loop stays
    the Trainer's: clipping acts on the combined gradient, mixed precision and several processes are those of
    accelerate, checkpoints have the rule's state beside the optimizer's, and its parameters, where it has
    some, are trained by the same optimizer without weight decay. With `gradient_accumulation_steps` the
    directions of the micro-batches are kept and combined once, as those of one batch; each micro-batch counts
    alike, whatever its number of tokens.

    compute_losses: what a subclass overrides; by default `losses` of the model's outputs, a mapping; else, of
    a mixture of experts, its loss and the balancing loss that is in it. rule: what combines them. observers:
    told of each step; trackers go on after a checkpoint where they were. backward_options: of
    `equipoise.backward`, such as preference, max_memory, on_nonfinite, groups. `last_step` is the record of
    the last combination. Its numbers are logged with the loss, as "equipoise/..."; that loss is the sum of
    the losses.

    Raises TypeError for what is no rule, and ValueError for outputs without several losses, for DataParallel,
    DeepSpeed and FSDP, and for options or rules that do not go with accumulation. Raises ImportError naming
    the extra `hf` where transformers or accelerate are not installed.
    """

    def __init__(
        self,
        *args: Any,
        rule: Rule,
        observers: Observers = (),
        backward_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(rule, Rule):
            raise TypeError(
                f"{rule!r} is no rule; a rule is an object such as equipoise.aggregation.UPGrad()"
            )
        self.rule = rule.to(self.args.device)
        self.observers = as_observers(observers)
        self.backward_options = dict(backward_options or {})
        self.last_step: Step | None = None
        self.model_accepts_loss_kwargs = (
            False  # the losses are means of their batch, for the Trainer to divide
        )
        self._named: Named = {}
        self._inputs: dict[str, Any] = {}
        self._accumulator = self._first_accumulator()
        self._refuse_what_shards()
        self.add_callback(_Advance(self))

    def compute_losses(self, model: nn.Module, inputs: dict[str, Any]) -> tuple[Named, Any]:
        """The losses by name (None for one that the batch lacks), and the model's outputs."""
        outputs = model(**inputs)
        found = outputs.get("losses") if isinstance(outputs, Mapping) else getattr(outputs, "losses", None)
        if isinstance(found, Mapping):
            return found, outputs
        balance = outputs.get("aux_loss") if isinstance(outputs, Mapping) else None
        share = getattr(self.accelerator.unwrap_model(model), "router_aux_loss_coef", None)
        if isinstance(balance, Tensor) and share:
            weighted = share * balance.to(outputs["loss"].device)
            return {"loss": outputs["loss"] - weighted, "balance": weighted}, outputs
        told = ", ".join(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
        raise ValueError(
            f"{type(self).__name__} finds no several losses in the outputs of {type(model).__name__} "
            f"({told}); override compute_losses(model, inputs) to give them by name, with the outputs"
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The sum of the losses, for the Trainer to report; in training their names are kept."""
        if model.training:
            self._inputs = dict(inputs)
        found, outputs = self.compute_losses(model, dict(inputs))
        total = torch.stack([loss for loss in found.values() if loss is not None]).sum()
        if model.training:
            self._named = found
        return (total, outputs) if return_outputs else total

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """The Trainer's own, with the rule where the loss is differentiated."""
        plain = self.accelerator.backward
        self.accelerator.backward = self._combine  # pyright: ignore[reportAttributeAccessIssue]
        try:
            return super().training_step(model, inputs, num_items_in_batch)
        finally:
            self.accelerator.backward = plain

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The Trainer's own, with the rule's parameters in a group without weight decay."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(*args, **kwargs)
        own = [parameter for parameter in self.rule.parameters() if parameter.requires_grad]
        if own and fresh:
            optimizer.add_param_group({"params": own, "weight_decay": 0.0})
        return optimizer

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The Trainer's own, with the numbers of the last step beside a training loss."""
        if "loss" in logs and self.last_step is not None:
            logs = {**logs, **{PREFIX + name: value for name, value in scalars(self.last_step).items()}}
        super().log(logs, *args, **kwargs)

    def _combine(self, loss: Tensor, **kwargs: Any) -> None:
        if self._accumulator is None:
            self.last_step = backward(
                self._named,
                self.rule,
                parameters=self.model,
                scaler=self.accelerator.scaler,
                observers=self.observers,
                previous=self.last_step,
                **self.backward_options,
            )
            return
        self._accumulator.scaler = self.accelerator.scaler
        self._accumulator.add(self._named)
        if self.accelerator.sync_gradients:
            self.last_step = self._accumulator.backward()

    def _first_accumulator(self) -> Accumulator | None:
        if self.args.gradient_accumulation_steps == 1:
            return None
        fits = ("preference", "private", "on_nonfinite", "groups")
        other = [name for name in self.backward_options if name not in fits]
        if other:
            raise ValueError(
                f"gradient_accumulation_steps is {self.args.gradient_accumulation_steps}, with which "
                f"{', '.join(other)} cannot go: directions are kept between micro-batches"
            )
        return Accumulator(
            self.rule, parameters=self.model, observers=self.observers, **self.backward_options
        )

    def _refuse_what_shards(self) -> None:
        reasons = {
            "DeepSpeed": self.is_deepspeed_enabled,
            "FSDP": self.is_fsdp_enabled,
            f"DataParallel over {self.args.n_gpu} devices of one process": self.args.n_gpu > 1,
        }
        for reason, holds in reasons.items():
            if holds:
                raise ValueError(
                    f"{reason} does not go with EquipoiseTrainer, which needs whole gradients; start one "
                    "process for each device (torchrun, accelerate launch)"
                )

    def _losses_after(self) -> dict[str, Tensor]:
        """The losses of the last micro-batch after the step."""
        model: Any = self.model_wrapped
        with torch.no_grad(), undisturbed(model), self.compute_loss_context_manager():
            found, _ = self.compute_losses(model, dict(self._prepare_inputs(self._inputs)))
        return averaged({name: loss for name, loss in found.items() if loss is not None})

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        path = None if checkpoint is None else Path(checkpoint) / RULE_FILE
        if path is None or not path.is_file():
            return
        state = {name: tensor.clone() for name, tensor in TensorFile(path).items()}
        number = state.pop("step")
        self.rule.load_state_dict(state)
        for observer in self.observers:
            if isinstance(observer, Tracker):
                observer.number = int(number)


class _Advance(TrainerCallback):
    """Lets the rule advance after each step of the optimizer, and keeps its state in checkpoints."""

    def __init__(self, trainer: EquipoiseTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        one, step = self.trainer, self.trainer.last_step
        if step is None:
            return
        needed = one.rule.needs_losses_after and not step.overflowed
        after = one._losses_after() if needed else None
        ended = abs(state.epoch - round(state.epoch)) < 1e-9
        one.rule.update(step, after, epoch_ended=ended)
        one.rule.zero_grad()  # the Trainer does so for the model's parameters alone
        told = None if after is None else {name: float(loss) for name, loss in after.items()}
        for observer in one.observers:
            observer.stepped(step, told)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if not args.should_save or not folder.is_dir():
            return
        tensors = dict(self.trainer.rule.state_dict())
        tensors["step"] = torch.tensor(state.global_step)
        write_tensors(folder / RULE_FILE, tensors.items(), {"rule": type(self.trainer.rule).__name__})
