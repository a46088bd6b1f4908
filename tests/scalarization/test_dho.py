import copy
from math import log

import pytest
import torch
from torch import nn

import equipoise
from equipoise.scalarization import DHO, Linear


class Constant(nn.Module):
    """A head that gives the same logits for every image."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, features):
        return self.logits.expand(len(features), -1)


def small() -> DHO:
    torch.manual_seed(0)
    return DHO(nn.Sequential(nn.Linear(4, 5), nn.Tanh()), nn.Linear(5, 3), nn.Linear(5, 3))


def batch(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    images, teacher = torch.randn(n, 4, generator=g), torch.randn(n, 3, generator=g)
    return images, torch.randint(3, (n,), generator=g), teacher


def test_the_prediction_is_the_mixture_of_equation_8():
    """Logits (ln 4, 0) give (0.8, 0.2), and so do (ln 2, 0) / 0.5; at beta = 1 these give (2/3, 1/3)."""
    model = DHO(nn.Identity(), Constant(log(4), 0.0), Constant(log(2), 0.0), alpha=0.25)
    assert model.predict(torch.zeros(2, 1)).tolist() == [pytest.approx([0.8, 0.2])] * 2
    model.beta.fill_(1.0)
    wanted = [0.25 * 0.8 + 0.75 * 2 / 3, 0.25 * 0.2 + 0.75 / 3]
    assert model.predict(torch.zeros(1, 1)).tolist() == [pytest.approx(wanted)]


def test_the_losses_are_those_of_the_authors_code():
    """train_others.py: 4 kl_div(log_softmax(s / 2), softmax(t / 2)), mean over images, on both parts."""
    model = small()
    images, labels, teacher = batch(6, 1)
    more, _, beside = batch(9, 2)
    losses = model.losses(images, labels, teacher, more, beside)
    supervised, distilled = model(images)

    def divergence(student, t):
        q, p = torch.softmax(student / 2, 1), torch.softmax(t / 2, 1)
        return 4 * (p * (p / q).log()).sum(1).mean()

    wanted = divergence(distilled, teacher) + divergence(model(more)[1], beside)
    torch.testing.assert_close(losses["distillation"], wanted)
    torch.testing.assert_close(losses["supervised"], nn.functional.cross_entropy(supervised, labels))


def test_each_head_hears_one_signal_and_the_extractor_both():
    model = small()
    losses = model.losses(*batch(6, 3))
    names, parameters = zip(*model.named_parameters(), strict=True)
    reached = []
    for loss in losses.values():
        rows = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        reached.append({name for name, row in zip(names, rows, strict=True) if row is not None})
    assert set.intersection(*reached) == {"extractor.0.weight", "extractor.0.bias"}
    assert {name.split(".")[0] for name in reached[0] ^ reached[1]} == {"supervised", "distilled"}


def test_a_rule_over_the_named_losses_is_the_papers_weighted_sum():
    """lambda L_CE + (1 - lambda) L_KD, which is Linear under that preference."""
    model, plain = small(), small()
    preference = {"supervised": 0.3, "distillation": 0.7}
    equipoise.backward(model.losses(*batch(6, 4)), Linear(), preference=preference)
    losses = plain.losses(*batch(6, 4))
    (0.3 * losses["supervised"] + 0.7 * losses["distillation"]).backward()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_student_equal_to_its_teacher_has_no_distillation_loss():
    model = small()
    images, labels, _ = batch(6, 5)
    teacher = model(images)[1].detach()
    assert model.losses(images, labels, teacher + 7.0)["distillation"].item() == pytest.approx(0.0, abs=1e-6)


def test_calibration_finds_the_best_pair_of_the_grid():
    """The supervised head is right on images 0 and 1, the other on 2, only a mixture on all."""
    images = torch.arange(3).float()[:, None]
    supervised = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.1, 0.0]])
    distilled = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 3.0]])

    class Table(nn.Module):
        def __init__(self, rows):
            super().__init__()
            self.rows = rows

        def forward(self, features):
            return self.rows[features[:, 0].long()]

    model = DHO(nn.Identity(), Table(supervised), Table(distilled))
    labels = torch.tensor([0, 0, 1])
    assert model.calibrate(images, labels) == 1.0
    assert torch.equal(model.predict(images).argmax(1), labels)
    for alpha in (0.0, 1.0):
        model.alpha.fill_(alpha)
        assert not torch.equal(model.predict(images).argmax(1), labels)


def test_the_mixture_is_saved_with_the_model():
    model, fresh = small(), DHO(nn.Sequential(nn.Linear(4, 5), nn.Tanh()), nn.Linear(5, 3), nn.Linear(5, 3))
    model.calibrate(*batch(20, 6)[:2])
    fresh.load_state_dict(copy.deepcopy(model.state_dict()))
    images = batch(4, 7)[0]
    assert torch.equal(model.predict(images), fresh.predict(images))
    assert (float(fresh.alpha), float(fresh.beta)) == (float(model.alpha), float(model.beta))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0 and beta 0.5"),
        ({"beta": -1.0}, "beta -1.0; both must be positive"),
        ({"alpha": 1.5}, "alpha is 1.5"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DHO(nn.Identity(), nn.Linear(2, 2), nn.Linear(2, 2), **options)


def test_logits_that_do_not_fit_are_refused():
    model = small()
    images, labels, teacher = batch(6, 8)
    with pytest.raises(ValueError, match=r"shape \(6, 2\), the student's \(6, 3\)"):
        model.losses(images, labels, teacher[:, :2])
    with pytest.raises(ValueError, match="go together; one is missing"):
        model.losses(images, labels, teacher, images)


def test_it_predicts_and_calibrates_in_evaluation_mode_and_leaves_every_mode_as_it_was():
    """Normalisation would else go by the images asked about, and its running means move."""
    torch.manual_seed(0)
    extractor = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Tanh())
    model = DHO(extractor, nn.Linear(5, 3), nn.Linear(5, 3))
    extractor[2].eval()
    images, labels = batch(20, 9)[:2]
    before = {name: value.clone() for name, value in extractor.state_dict().items()}
    whole = model.predict(images)
    assert torch.allclose(model.predict(images[:1]), whole[:1])
    model.calibrate(images, labels)
    assert all(torch.equal(value, before[name]) for name, value in extractor.state_dict().items())
    modes = [module.training for module in model.modules()]
    assert modes.count(False) == 1
    assert not extractor[2].training
    with pytest.raises(RuntimeError):
        model.predict(images[:, :2])
    assert model.training
