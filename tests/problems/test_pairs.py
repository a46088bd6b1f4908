"""Two digits in one image: no digit crosses a split, and the recipe is MultiMNIST's."""

import numpy as np
import pytest
import torch

from equipoise.problems import digitspairs
from equipoise.problems.pairs import draw_pairs, overlay
from equipoise.problems.registry import problem

SPLITS = ("train", "validation", "test")


def disjoint(*groups):
    return sum(len(set(group)) for group in groups) == len(set().union(*groups))


@pytest.fixture
def numbered_digits(monkeypatch):
    """Digits that are grey throughout, each in its own grey: 16 times its number plus 16."""
    images = np.repeat(np.arange(1, 1798, dtype=float)[:, None] * 16, 64, axis=1)
    labels = np.arange(1797) % 10
    monkeypatch.setattr(digitspairs, "digits", lambda: (images, labels))


@pytest.fixture
def numbered_mnist(tmp_path, monkeypatch):
    """$EQUIPOISE_DATA with 120 training and 60 test digits, each grey throughout in its own grey."""
    greys = np.arange(1, 181, dtype=np.uint8)
    images = np.broadcast_to(greys[:, None, None], (180, 28, 28)).copy()
    (tmp_path / "mnist").mkdir()
    np.savez(
        tmp_path / "mnist" / "mnist.npz",
        x_train=images[:120],
        y_train=greys[:120] % 10,
        x_test=images[120:],
        y_test=greys[120:] % 10,
    )
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))


@pytest.mark.usefixtures("numbered_digits")
def test_no_digit_of_one_split_is_in_another():
    splits = digitspairs._splits.__wrapped__(9600, 2000, 3, 0)
    seen = {}
    for name, (images, left, right) in splits.items():
        corners = images[:, 0, 0], images[:, -1, -1]  # the left digit's ink, the right digit's ink
        for greys, labels in zip(corners, (left, right), strict=True):
            assert torch.equal((greys.long() - 1) % 10, labels)
        seen[name] = torch.cat(corners).tolist()
    assert tuple(seen) == SPLITS
    assert disjoint(*seen.values())
    assert [len(set(greys)) for greys in seen.values()] == [1078, 359, 360]


@pytest.mark.usefixtures("numbered_mnist")
def test_mnist_keeps_test_digits_and_validation_digits_apart():
    data = problem("mnist-pairs", pairs=400, judged=300)
    seen = {}
    for name, (images, left, right) in data.splits().items():
        assert images.shape[1:] == (28, 28)
        greys = [(images[:, at, at] * 255).round().long() for at in (0, 25)]
        for grey, labels in zip(greys, (left, right), strict=True):
            assert torch.equal(grey % 10, labels)
        seen[name] = torch.cat(greys).tolist()
    assert disjoint(*seen.values())
    assert min(seen["test"]) > 120 >= max(seen["train"] + seen["validation"])
    assert len(set(seen["validation"])) == 10


def test_the_darker_pixel_shows():
    generator = torch.Generator().manual_seed(0)
    left, right = torch.rand(2, 5, 28, 28, generator=generator)
    image = overlay(left, right, offset=6, canvas=36)
    assert torch.equal(image[:, :28, :6], left[:, :, :6])
    assert torch.equal(image[:, 6:34, 28:34], right[:, :, 22:])
    assert torch.equal(image[:, 6:28, 6:28], torch.maximum(left[:, 6:, 6:], right[:, :22, :22]))
    assert not image[:, 34:].any()
    assert not image[:, :, 34:].any()


def test_digits_are_used_evenly_and_never_meet_themselves():
    digits = torch.arange(1.0, 41.0)[:, None, None].expand(40, 2, 2)
    images, left, right = draw_pairs(digits, torch.arange(40), 100, offset=2, canvas=4, seed=3)
    assert set(left.bincount().tolist()) == {2, 3}
    assert (left != right).all()
    assert torch.equal(images[:, 0, 0].long(), left + 1)
    assert torch.equal(images[:, 3, 3].long(), right + 1)


def test_the_generator_gives_the_order_and_nothing_else_does():
    data = problem("digits-pairs", pairs=512)

    def epoch(seed):
        torch.rand(1)  # the global generator moves on
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return torch.cat([images for images, *_ in data.batches("train", generator)])

    assert torch.equal(epoch(1), epoch(1))
    assert not torch.equal(epoch(1), epoch(2))
    assert torch.equal(epoch(None), data.splits()["train"][0])
    assert torch.equal(epoch(1).sum((1, 2)).sort().values, epoch(None).sum((1, 2)).sort().values)


def test_a_second_problem_finds_the_data_loaded():
    assert problem("digits-pairs").splits() is problem("digits-pairs", width=8).splits()


def test_another_split_seed_is_another_split():
    first, second = (problem("digits-pairs", split_seed=seed).splits()["test"][1] for seed in (0, 1))
    assert not torch.equal(first, second)


def test_shapes():
    data = problem("digits-pairs")
    images, left, right = next(iter(data.batches("train", None)))
    assert images.shape == (128, 11, 11)
    assert images.dtype == torch.float32
    assert 0 <= images.min() <= images.max() <= 1
    assert left.shape == right.shape == (128,)
    assert list(data.losses(data.model(), (images, left, right))) == ["left", "right"]
    assert sum(1 for _ in data.batches("train", None)) == 75


def test_accuracy_is_the_share_named_rightly():
    torch.manual_seed(0)
    data = problem("digits-pairs", judged=1500)  # more than one pass of 1,000
    images, left, right = data.splits()["validation"]
    model = data.model().eval()
    with torch.no_grad():
        outputs, found = model(images), data.evaluate(model, "validation")
    for side, labels in (("left", left), ("right", right)):
        hits = sum(int(row.argmax()) == int(label) for row, label in zip(outputs[side], labels, strict=True))
        assert found[side] == hits / 1500


def test_the_mean_reaches_85_percent_on_both_digits():
    data = problem("digits-pairs")
    for seed in range(5):
        torch.manual_seed(seed)
        model, generator = data.model(), torch.Generator().manual_seed(seed)
        optimizer = data.optimizer(model.parameters(), 0.1)
        for _ in range(data.epochs):
            for batch in data.batches("train", generator):
                (sum(data.losses(model, batch).values()) / 2).backward()
                optimizer.step()
                optimizer.zero_grad()
        with torch.no_grad():
            assert min(data.evaluate(model.eval(), "test").values()) >= 0.85


@pytest.mark.usefixtures("data_folder")
def test_mnist_pairs_train():
    data = problem("mnist-pairs", pairs=2560, judged=500, batch_size=32)
    torch.manual_seed(0)
    model = data.model()
    optimizer = data.optimizer(model.parameters(), 0.1)
    for _ in range(4):
        for batch in data.batches("train", torch.Generator().manual_seed(0)):
            (sum(data.losses(model, batch).values()) / 2).backward()
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        assert min(data.evaluate(model.eval(), "test").values()) > 0.3  # ten digits: chance is 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pairs": 0}, "pairs is 0; it must be at least 1"),
        ({"offset": -1}, "offset is -1"),
        ({"batch_size": 0}, "batch"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        problem("digits-pairs", **options)


@pytest.mark.usefixtures("numbered_mnist")
def test_an_offset_off_the_canvas_is_refused():
    with pytest.raises(ValueError, match="offset is 9; 28 pixels fit a canvas of 36 up to 8"):
        problem("mnist-pairs", offset=9).prepare()
