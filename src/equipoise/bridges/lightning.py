"""Lightning: a module whose training step returns named losses, and a callback that only looks."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from equipoise.bridges.tracker import PREFIX, Tracker
from equipoise.core.accumulate import Accumulator
from equipoise.core.backward import backward
from equipoise.core.collect import measure
from equipoise.core.objectives import named_losses
from equipoise.core.observer import Observers, as_observers
from equipoise.core.optional import require
from equipoise.core.rule import Rule
from equipoise.core.scalars import scalars
from equipoise.core.step import Step
from equipoise.core.undisturbed import undisturbed
from equipoise.core.world import averaged

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    _lightning = require("lightning.pytorch", "lightning")
    Callback, LightningModule = _lightning.Callback, _lightning.LightningModule

Named = Mapping[str, Tensor | None]


class EquipoiseModule(LightningModule):
    """A LightningModule whose `training_step` returns losses by name, combined by a rule.

    ```python
    class TwoDigits(EquipoiseModule):                      # was: LightningModule
        def __init__(self):
            super().__init__(rule=UPGrad())
            ...
        def training_step(self, batch, batch_idx):
            ...
            return {"left": left_loss, "right": right_loss}  # was: left_loss + right_loss
    ```

    Optimization stays automatic, so that gradient clipping, schedulers, precision plugins with their
    GradScaler, checkpoints and several processes are Lightning's own. With `accumulate_grad_batches` the
    directions of the micro-batches are kept and combined once, as those of one batch: their mean, in the
    last window of an epoch too. The rule is a submodule: its state is in every checkpoint, its parameters are
    among `self.parameters()`, and `update` is called after each step of the optimizer.

    rule: what combines the losses. observers: told of each step; trackers go on after a checkpoint where they
    were. options: of `equipoise.backward`, such as preference, max_memory, on_nonfinite, groups. `last_step`
    is the record of the last combination, None before the first.

    A rule that needs the losses after the step (FAMO) costs one more forward pass of the batch, during which
    `self.log` writes nothing and buffers and random numbers stay as they were.

    Raises TypeError for what is no rule and for a training step that returns no named losses, and ValueError
    where no optimizer trains a parameter of the rule, or where micro-batches are accumulated with an option
    or a rule for which that is not possible. Raises ImportError naming the extra `lightning` where it is not
    installed. The package `pytorch_lightning` is another one: import from `lightning`.
    """

    _ACCUMULATED: ClassVar = ("preference", "private", "on_nonfinite", "groups")

    def __init__(self, *, rule: Rule, observers: Observers = (), **options: Any) -> None:
        super().__init__()
        if not isinstance(rule, Rule):
            raise TypeError(
                f"{rule!r} is no rule; a rule is an object such as equipoise.aggregation.UPGrad()"
            )
        self.rule = rule
        self.observers = as_observers(observers)
        self.options = options
        self.last_step: Step | None = None
        self._named: Named = {}
        self._again: Callable[[], Named] | None = None
        self._measuring = False
        self._accumulator: Accumulator | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "training_step" in cls.__dict__:
            cls.training_step = _summed(cls.training_step)  # pyright: ignore[reportAttributeAccessIssue]

    def on_fit_start(self) -> None:
        super().on_fit_start()
        trained = {
            id(p) for one in self.trainer.optimizers for group in one.param_groups for p in group["params"]
        }
        idle = [name for name, p in self.rule.named_parameters() if p.requires_grad and id(p) not in trained]
        if idle:
            raise ValueError(
                f"no optimizer trains {', '.join(idle)} of {type(self.rule).__name__}; configure_optimizers "
                "is to take self.parameters(), which has them"
            )
        self._accumulator = None
        if self.trainer.accumulate_grad_batches > 1:
            other = [name for name in self.options if name not in self._ACCUMULATED]
            if other:
                raise ValueError(
                    f"accumulate_grad_batches is {self.trainer.accumulate_grad_batches}, with which "
                    f"{', '.join(other)} cannot go: directions are kept between micro-batches"
                )
            self._accumulator = Accumulator(
                self.rule,
                parameters=self._trained(),
                scaler=self._scaler(),
                observers=self.observers,
                **self.options,
            )

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """In place of `loss.backward()`: combine the named losses of the batch, or keep them for later."""
        if self._accumulator is not None:
            self._accumulator.add(self._named)
            return
        self.last_step = backward(
            self._named,
            self.rule,
            parameters=self._trained(),
            scaler=self._scaler(),
            observers=self.observers,
            previous=self.last_step,
            **self.options,
        )

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Combine what was accumulated before the step, and let the rule advance after it."""

        def closure() -> Any:
            found = optimizer_closure() if optimizer_closure is not None else None
            if self._accumulator is not None:
                self.last_step = self._accumulator.backward()
            return found

        super().optimizer_step(epoch, batch_idx, optimizer, closure)
        step = self.last_step
        if step is None:
            return
        after = self._losses_after() if self.rule.needs_losses_after and not step.overflowed else None
        self.rule.update(step, after, epoch_ended=self.trainer.is_last_batch)
        told = None if after is None else {name: float(loss) for name, loss in after.items()}
        for observer in self.observers:
            observer.stepped(step, told)

    def log(self, *args: Any, **kwargs: Any) -> None:
        """As Lightning's; nothing while the losses after a step are measured."""
        if not self._measuring:
            super().log(*args, **kwargs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        states = {i: one.state_dict() for i, one in enumerate(self.observers) if isinstance(one, Tracker)}
        checkpoint["equipoise"] = states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        for i, state in checkpoint.get("equipoise", {}).items():
            one = self.observers[i] if i < len(self.observers) else None
            if isinstance(one, Tracker):
                one.load_state_dict(state)

    def _losses_after(self) -> dict[str, Tensor]:
        assert self._again is not None
        self._measuring = True
        try:
            with torch.no_grad(), undisturbed(self), self.trainer.precision_plugin.forward_context():
                found = self._again()
        finally:
            self._measuring = False
        return averaged({name: loss for name, loss in found.items() if loss is not None})

    def _scaler(self) -> Any:
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def _trained(self) -> dict[str, nn.Parameter]:
        """The parameters of the model, without the rule's."""
        return {name: p for name, p in self.named_parameters() if not name.startswith("rule.")}


def _summed(training_step: Callable[..., Any]) -> Callable[..., Tensor]:
    """The training step with what Lightning wants of one: the sum of the losses; their names are kept."""

    @wraps(training_step)
    def step(self: EquipoiseModule, *args: Any, **kwargs: Any) -> Tensor:
        found = training_step(self, *args, **kwargs)
        if not isinstance(found, Mapping):
            raise TypeError(
                f"training_step of {type(self).__name__} gave {type(found).__name__}; an EquipoiseModule "
                'wants losses by name, such as {"left": loss, "right": other}'
            )
        self._named, self._again = found, lambda: training_step(self, *args, **kwargs)
        return torch.stack([loss for loss in named_losses(found).values()]).sum()

    return step


class ConflictCallback(Callback):
    """Measures how losses conflict in a run that trains as it always did, and changes nothing of it.

    objectives: a function (module, batch) -> losses by name; by default the module's method of that name,
    called with the batch. every: one batch of so many is measured, before it is trained on, by one more
    forward pass and a backward pass for each loss. Gradients, buffers and random numbers stay as they were.
    The numbers go to the trainer's loggers as "equipoise/...", with those of each layer; `last` is the last
    measurement, a `Step` without weights.

    Raises ValueError for an `every` below 1, and TypeError where there is no such function.
    """

    def __init__(self, objectives: Callable[[Any, Any], Named] | None = None, *, every: int = 50) -> None:
        if every < 1:
            raise ValueError(f"every is {every}; it counts batches, from 1")
        self.objectives = objectives
        self.every = every
        self.last: Step | None = None

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % self.every:
            return
        own: Any = getattr(pl_module, "objectives", None)
        if self.objectives is None and not callable(own):
            raise TypeError(
                f"{type(pl_module).__name__} has no method `objectives(batch)` that gives losses by name; "
                "define it, or give ConflictCallback a function"
            )
        with undisturbed(pl_module), torch.enable_grad(), trainer.precision_plugin.forward_context():
            losses: Any = own(batch) if self.objectives is None else self.objectives(pl_module, batch)
            self.last = measure(losses, pl_module)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                values = {PREFIX + name: value for name, value in scalars(self.last).items()}
                logger.log_metrics(values, step=trainer.global_step)
