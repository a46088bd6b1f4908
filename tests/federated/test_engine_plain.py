"""Settings as plain values: the same in every process, other for what is other."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
import torch

from equipoise.aggregation import CAGrad
from equipoise.federated import SCAFFOLD, ByRule, FedProx, Local, NotANumber, Participation
from equipoise.federated.engine.plain import plain


@dataclass
class Part:
    a: int = 1
    cache: dict = field(default_factory=dict, compare=False)


class Thing:
    def __init__(self, size):
        self.size = size
        self._hidden = object()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Local(steps=3),
        lambda: Participation(probability={"a": 0.5}),
        lambda: ByRule(CAGrad()).server,
        lambda: FedProx(mu=0.3).client,
        lambda: SCAFFOLD().server,
        lambda: {"b": NotANumber()},
        lambda: Thing(2),
        lambda: partial(plain, thing=3),
        lambda: np.arange(3000),
        lambda: torch.arange(3000),
        lambda: {"x", "y", "z"},
        lambda: torch.Generator().manual_seed(3),
        lambda: torch.float64,
    ],
)
def test_it_is_json_and_says_nothing_of_this_process(make):
    text = json.dumps(plain(make()))
    assert text == json.dumps(plain(make()))
    assert " at 0x" not in text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Local(steps=3), Local(steps=4)),
        (ByRule(CAGrad(c=0.5)).server, ByRule(CAGrad(c=0.4)).server),
        (ByRule(CAGrad()).server, ByRule(CAGrad(), learning_rate=0.5).server),
        (FedProx(mu=0.3).client, FedProx(mu=0.4).client),
        (Thing(2), Thing(3)),
        (torch.zeros(3000), torch.cat([torch.zeros(2999), torch.ones(1)])),
        (np.zeros(3000), np.append(np.zeros(2999), 1.0)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (partial(plain, thing=3), partial(plain, thing=4)),
        (plain, json.dumps),
        (torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)),
        ({"x"}, {"y"}),
        (Part(), Thing(1)),
    ],
)
def test_what_differs_is_told_apart(one, other):
    assert plain(one) != plain(other)


def test_what_does_not_count_when_two_are_compared_does_not_count_here():
    assert plain(Part(cache={"x": object()})) == plain(Part())


def test_it_is_the_same_in_another_process():
    code = (
        "import json; from equipoise.federated import *; from equipoise.federated.engine.plain import plain;"
        "print(json.dumps(plain(["
        "Participation(probability={'a': .5}), {'x', 'y', 'z'}, SCAFFOLD().client, plain])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    settings = [Participation(probability={"a": 0.5}), {"x", "y", "z"}, SCAFFOLD().client, plain]
    assert json.loads(done.stdout) == plain(settings)
