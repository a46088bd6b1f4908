"""The Lightning bridge trains for real: as a loop by hand, with what Lightning adds, and after a stop."""

import json

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from tests.bridges.networks import TwoHeads, digits
from torch import nn
from torch.utils.data import DataLoader

import equipoise
from equipoise.aggregation import DBMTL, MoCo, UPGrad
from equipoise.bridges import JSONLines
from equipoise.bridges.lightning import ConflictCallback, EquipoiseModule
from equipoise.scalarization import DWA, FAMO, UncertaintyWeighting

RATE = 0.1


class Digits(EquipoiseModule):
    def __init__(self, rule, *, norm=False, **options):
        super().__init__(rule=rule, **options)
        torch.manual_seed(0)
        self.net = TwoHeads(norm=norm)

    def training_step(self, batch, batch_idx):
        losses = self.net.losses(batch)
        self.log("digit", losses["digit"])
        return losses

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=RATE, momentum=0.9)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)}


class Resumable(DataLoader):
    """Batches in order, which go on in mid-epoch after a checkpoint, as Lightning lets a loader say."""

    done = skipped = 0

    def __iter__(self):
        skipped, self.skipped = self.skipped, 0
        for place, batch in enumerate(super().__iter__()):
            if place >= skipped:
                self.done = place + 1
                yield batch

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.skipped = state["done"]


def loader(batch=32):
    return Resumable(digits(), batch_size=batch, shuffle=False)


def trainer(folder, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    options = {"logger": False, "enable_checkpointing": False, "max_epochs": 2, **options}
    return Trainer(accelerator="cpu", devices=1, default_root_dir=folder, **quiet, **options)


def fitted(folder, rule, *, batch=32, norm=False, resume=None, module=None, **options):
    own = {name: options.pop(name) for name in ("observers", "preference", "groups") if name in options}
    module = module or Digits(rule, norm=norm, **own)
    trainer(folder, **options).fit(module, loader(batch), ckpt_path=resume)
    return module


def by_hand(rule, *, batch=32, epochs=2, clip=None, micro=1, norm=False):
    """The same training as one would write it."""
    torch.manual_seed(0)
    net = TwoHeads(norm=norm)
    optimizer = torch.optim.SGD([*net.parameters(), *rule.parameters()], lr=RATE, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    for _ in range(epochs):
        batches = list(loader(batch))
        for start in range(0, len(batches), micro):
            window = batches[start : start + micro]
            optimizer.zero_grad()
            if micro == 1:
                step = equipoise.backward(net.losses(window[0]), rule, parameters=net)
            else:
                accumulator = equipoise.Accumulator(rule, parameters=net)
                for part in window:
                    accumulator.add(net.losses(part))
                step = accumulator.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], clip)
            optimizer.step()

            def after(window=window):
                with torch.no_grad(), equipoise.core.undisturbed.undisturbed(net):
                    return net.losses(window[0])

            rule.update(step, after, epoch_ended=start + micro >= len(batches))
        schedule.step()
    return net


def same(one, other):
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize(
    "rule", [UPGrad, MoCo, DWA, FAMO, UncertaintyWeighting, DBMTL], ids=lambda r: r.__name__
)
def test_it_trains_as_a_loop_by_hand(tmp_path, rule):
    module = fitted(tmp_path, rule())
    same(module.net, by_hand(rule()))
    assert module.trainer.global_step == 16
    assert module.last_step.names == ("digit", "parity")


def test_clipping_is_lightnings_own(tmp_path):
    same(fitted(tmp_path, UPGrad(), gradient_clip_val=0.05).net, by_hand(UPGrad(), clip=0.05))


def test_micro_batches_are_combined_once_the_last_window_too(tmp_path):
    module = fitted(tmp_path, UPGrad(), accumulate_grad_batches=3)
    same(module.net, by_hand(UPGrad(), micro=3))
    assert module.trainer.global_step == 6


def test_losses_after_leave_batch_norm_and_dropout_alone(tmp_path):
    same(fitted(tmp_path, FAMO(), norm=True).net, by_hand(FAMO(), norm=True))


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "32-true"])
def test_precision_plugins(tmp_path, precision):
    module = fitted(tmp_path, UPGrad(), precision=precision, max_epochs=4)
    wanted = torch.float64 if precision == "64-true" else torch.float32
    assert module.net.digit.weight.dtype == wanted
    assert module.trainer.callback_metrics["digit"] < 2
    assert module.last_step.gramian is not None


def test_the_scaler_of_float16_is_used_and_an_overflow_skips_the_step(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**22)
    module = Digits(UPGrad())
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    trainer(tmp_path, plugins=[plugin], max_epochs=3).fit(module, loader())
    assert scaler.get_scale() < 2.0**22
    assert all(p.isfinite().all() for p in module.parameters())
    assert not torch.equal(module.net.digit.weight, Digits(UPGrad()).net.digit.weight)


class Stop(Callback):
    """Saves and stops after so many batches."""

    def __init__(self, path, after):
        self.path, self.after = path, after

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.after:
            trainer.save_checkpoint(self.path)
            raise SystemExit


@pytest.mark.parametrize("rule", [MoCo, FAMO, DWA, UncertaintyWeighting], ids=lambda r: r.__name__)
def test_a_run_that_was_stopped_goes_on_with_the_same_weights(tmp_path, rule):
    whole = fitted(tmp_path, rule(), max_epochs=3)
    path, log = tmp_path / "stopped.ckpt", tmp_path / "steps.jsonl"
    run = trainer(tmp_path, max_epochs=3, callbacks=[Stop(path, 11)])
    with pytest.raises(SystemExit):
        run.fit(Digits(rule(), observers=JSONLines(log)), loader())
    again = fitted(tmp_path, rule(), max_epochs=3, resume=path, observers=JSONLines(log))
    same(again.net, whole.net)
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [one["step"] for one in records if "equipoise/loss/digit" in one] == list(range(24))


def test_a_learnable_rule_without_its_optimizer_is_refused(tmp_path):
    class Forgetful(Digits):
        def configure_optimizers(self):
            return torch.optim.SGD(self.net.parameters(), lr=RATE)

    with pytest.raises(ValueError, match=r"no optimizer trains .*UncertaintyWeighting"):
        trainer(tmp_path).fit(Forgetful(UncertaintyWeighting()), loader())


def test_a_training_step_without_names_is_refused(tmp_path):
    class Summed(Digits):
        def training_step(self, batch, batch_idx):
            return sum(self.net.losses(batch).values())

    with pytest.raises(
        TypeError, match=r"training_step of Summed gave Tensor; an EquipoiseModule wants losses by name"
    ):
        trainer(tmp_path).fit(Summed(UPGrad()), loader())


def test_options_that_do_not_go_with_accumulation_are_refused(tmp_path):
    module = Digits(UPGrad(), max_memory="1GiB")
    with pytest.raises(ValueError, match="accumulate_grad_batches is 2, with which max_memory cannot go"):
        trainer(tmp_path, accumulate_grad_batches=2).fit(module, loader())
    with pytest.raises(ValueError, match="MoCo transforms the rows"):
        trainer(tmp_path, accumulate_grad_batches=2).fit(Digits(MoCo()), loader())
    with pytest.raises(TypeError, match="is no rule"):
        Digits(UPGrad)


class Plain(LightningModule):
    """A module that trains the sum of its losses automatically."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = TwoHeads(norm=True)

    def objectives(self, batch):
        return self.net.losses(batch)

    def training_step(self, batch, batch_idx):
        return sum(self.objectives(batch).values())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=RATE)


def test_the_callback_measures_and_changes_nothing(tmp_path):
    alone, watched = Plain(), Plain()
    trainer(tmp_path).fit(alone, loader())
    looks = ConflictCallback(every=4)
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=1)
    trainer(tmp_path, callbacks=[looks], logger=logger).fit(watched, loader())
    for (name, a), b in zip(alone.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert looks.last.names == ("digit", "parity")
    text = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text()
    assert "equipoise/conflict/share" in text
    assert "equipoise/layer/net.trunk.0/worst_cosine" in text


def test_the_callback_measures_the_gramian_of_the_shared_parameters():
    module = Plain()
    batch = next(iter(loader()))
    step = equipoise.core.collect.measure(module.net.losses(batch), module)
    bundle = equipoise.gradients(module.net.losses(batch))
    torch.testing.assert_close(step.gramian, bundle.gramian(), rtol=1e-5, atol=1e-9)


def test_the_callback_wants_a_function(tmp_path):
    class Silent(Plain):
        objectives = None

        def training_step(self, batch, batch_idx):
            return sum(self.net.losses(batch).values())

    with pytest.raises(TypeError, match="Silent has no method `objectives"):
        trainer(tmp_path, callbacks=[ConflictCallback()]).fit(Silent(), loader())
    with pytest.raises(ValueError, match="every is 0"):
        ConflictCallback(every=0)
