"""The coordinate check on bytes of English: muP keeps sizes over widths, the standard one does not."""

import gzip
import json

import numpy as np
import pytest
import torch
from torch import nn

from equipoise.scaling.coordinatecheck import PHASES, coordinate_check

WIDTHS = (32, 64, 128, 256, 512)


class ByteNetwork(nn.Module):
    """The next byte from the eight before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, 16)
        self.first = nn.Linear(128, width)
        self.second = nn.Linear(width, width)
        self.head = nn.Linear(width, 256)

    def forward(self, x):  # (n, 8) -> (n, 256)
        return self.head(self.second(self.first(self.embed(x).flatten(1)).relu()).relu())


def byte_batches(folder, count, size=128, seed=0):
    """Pairs of eight bytes and the next one, of the English text."""
    with gzip.open(folder / "text_cv40" / "en.train.txt.gz") as file:
        text = torch.tensor(np.frombuffer(file.read(200_000), dtype=np.uint8).astype(np.int64))
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, len(text) - 9, (count, size, 1), generator=generator)
    return [(window[:, :8], window[:, 8]) for window in text[starts + torch.arange(9)]]


@pytest.fixture(scope="module")
def checks(data_folder):
    batches = byte_batches(data_folder, 4)
    return {
        base: coordinate_check(ByteNetwork, WIDTHS, batches, plan_base=base, lr=2e-3) for base in (None, 32)
    }


def test_hidden_layers_keep_their_size_and_logits_grow_less(checks, vectors_folder):
    """The vector: |slope| of hidden layers below 0.12 after 4 steps, logits below the standard slope."""
    rule = json.loads((vectors_folder / "scaling.json").read_text())["mup_rules"]["coordinate_check"]
    assert "|slope| of hidden pre-activations < 0.12 after 4 steps" in rule["test"]
    mup, standard = checks[32], checks[None]
    for layer in ("embed", "first", "second"):
        assert abs(mup["start"][layer].slope) < 0.12
        assert abs(mup["after"][layer].slope) < 0.12
        assert mup["after"][layer].verdict == "steady"
    assert mup["after"]["head"].slope < standard["after"]["head"].slope - 0.5
    assert mup["start"]["head"].slope == pytest.approx(rule["mup_init"], abs=0.1)


def test_verdicts(checks):
    mup, standard = checks[32], checks[None]
    assert mup.ok
    assert mup["start"]["head"].verdict == "shrinks"
    assert mup["start"]["head"].output
    assert not mup["start"]["second"].output
    assert not standard.ok
    assert standard["after"]["head"].verdict == standard["moved"]["second"].verdict == "grows"
    assert standard["moved"]["head"].slope > 0.8 > 0.2 > abs(mup["moved"]["head"].slope)
    assert any(line.startswith("head, after: +") for line in standard.faults())


def test_at_the_learning_rate_of_the_vector(data_folder):
    """At 2e-2 all slopes of muP are near those of the vector: hidden +0.08, logits +0.13."""
    found = coordinate_check(ByteNetwork, WIDTHS, byte_batches(data_folder, 4), plan_base=32, lr=2e-2)
    assert abs(found["after"]["second"].slope) < 0.12
    assert abs(found["after"]["head"].slope) < 0.25


def test_sgd_changes_alike_at_all_widths(data_folder):
    batches = byte_batches(data_folder, 4)
    moved = {
        base: coordinate_check(
            ByteNetwork, WIDTHS[:4], batches, plan_base=base, lr=0.1, optimizer="sgd"
        )["moved"]
        for base in (None, 32)
    }  # fmt: skip
    for layer in ("first", "second"):
        assert abs(moved[32][layer].slope) < abs(moved[None][layer].slope)
    assert abs(moved[32]["first"].slope) < 0.2


def test_table_and_sizes(checks):
    text = str(checks[32])
    assert "muP from base 32, adam, lr 0.002" in text
    assert "widths 32, 64, 128, 256, 512" in text
    assert [line.split()[0] for line in text.splitlines()[2:6]] == ["embed", "first", "second", "head"]
    assert "no fault found" in text
    for phase in PHASES:
        assert checks[32].sizes[phase]["head"].shape == (3, 5)
        for found in checks[32][phase].values():
            assert found.low <= found.slope <= found.high


def test_slope_of_a_known_power():
    """A sum over the width of ones is width^1, and its mean is width^0."""

    class Powers(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.one = nn.Parameter(torch.ones(width))
            self.sum, self.mean, self.none = nn.Identity(), nn.Identity(), nn.Identity()

        def forward(self, x):  # (n, 2) -> (n, 2)
            self.none(0 * self.one)
            return self.mean(self.one.mean() * x) + 0 * self.sum(self.one.sum().detach() * torch.ones(1))

    batch = (torch.ones(3, 2), torch.zeros(3, dtype=torch.int64))
    found = coordinate_check(Powers, (4, 8, 16), [batch], steps=1, optimizer="sgd", lr=0.1)["start"]
    assert found["sum"].slope == pytest.approx(1)
    assert found["sum"].verdict == "grows"
    assert found["mean"].slope == pytest.approx(0, abs=1e-6)
    assert found["none"].verdict == "zero"
    assert "model" in found


def test_a_diverged_layer_is_named(data_folder):
    found = coordinate_check(
        ByteNetwork, (16, 32), byte_batches(data_folder, 1, 16), optimizer="sgd", lr=1e20, seeds=2
    )
    assert found["after"]["head"].verdict == "not finite"
    assert not found.ok


def test_random_state_is_left(data_folder):
    batches = byte_batches(data_folder, 1, 16)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    coordinate_check(ByteNetwork, (16, 32), batches, plan_base=16, steps=1, seeds=2)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"widths": (32, 32)}, r"widths are \[32, 32\]; it takes two"),
        ({"batches": []}, "batches are empty"),
        ({"seeds": 1}, "seeds is 1"),
        ({"steps": 0}, "steps is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"optimizer": "lion"}, "optimizer is 'lion'"),
        ({"plan_options": {"fan_in": {"x": 0}}, "plan_base": 16}, "fan_in: 'x' fits no parameter"),
    ],
)
def test_errors(changed, message):
    batch = (torch.zeros(2, 8, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    given = {"widths": (16, 32), "batches": [batch], **changed}
    with pytest.raises(ValueError, match=message):
        coordinate_check(ByteNetwork, **given)
