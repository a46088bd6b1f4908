"""MuP: the rules of the vectors, the kinds of parameters, and that a plan goes wherever a model does."""

import copy
import io
import json
import math
import pickle

import pytest
import torch
from torch import nn

from equipoise.scaling.mup import attention_scale, plan
from equipoise.scaling.mupplan import Plan

BASE, WIDTH, M = 16, 64, 4.0


class Network(nn.Module):
    """Embedding, an uneven pair of hidden layers, a norm and a readout."""

    def __init__(self, width: int, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, width, padding_idx=0)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x):  # (n, t) -> (n, t, 10)
        return self.head(self.norm(self.down(self.up(self.embed(x)).relu())))


@pytest.fixture(scope="module")
def rules(vectors_folder):
    return json.loads((vectors_folder / "scaling.json").read_text())["mup_rules"]


def value(rule, m):
    """A factor as the vectors write it."""
    return {"1": 1.0, "1/m": 1 / m}[str(rule)]


@pytest.mark.parametrize("width", [BASE, WIDTH])
def test_adam_follows_the_vector(rules, width):
    m, found = width / BASE, plan(Network, base=BASE, width=width)
    adam = rules["adam"]
    for name in ("embed.weight", "up.bias", "norm.weight", "norm.bias", "head.bias"):
        assert found[name]["lr_mult"] == value(adam["input/bias/norm/embedding"]["lr"], m)
    for name, fan_in in (("up.weight", width), ("down.weight", 2 * width)):
        assert found[name]["lr_mult"] == value(adam["hidden"]["lr"], m)
        assert adam["hidden"]["init_var"] == "1/(m base)"
        assert found[name]["init_std"] == pytest.approx(fan_in**-0.5)
        assert "multiply wd of hidden by m" in adam["weight_decay"]
        assert found[name]["wd_mult"] == m
    assert found["head.weight"]["lr_mult"] == value(adam["output"]["lr"], m)
    assert found["head.weight"]["fwd_mult"] == value(adam["output"]["forward_multiplier"], m)
    assert adam["output"]["init_var"] == "base"
    assert found["head.weight"]["init_std"] == pytest.approx(BASE**-0.5)
    assert found["embed.weight"]["init_std"] == 1


def test_sgd_follows_the_vector(rules):
    assert rules["sgd"] == {"vector-like": "lr*m", "hidden": "lr * fan_out_mult/fan_in_mult"}
    found = plan(Network, base=BASE, width=WIDTH, optimizer="sgd")
    for name in ("embed.weight", "up.bias", "norm.weight", "head.weight"):
        assert found[name]["lr_mult"] == M
    assert found["up.weight"]["lr_mult"] == 1
    assert found["head.bias"]["lr_mult"] == 1
    uneven = plan(lambda w: nn.Linear(w, w * w), base=4, width=8, optimizer="sgd")
    assert (uneven["weight"]["lr_mult"], uneven["weight"]["wd_mult"]) == (2, 0.5)


def test_kinds():
    found = plan(Network, base=BASE, width=WIDTH)
    kinds = {name: entry["kind"] for name, entry in found.items()}
    assert kinds["embed.weight"] == "input"
    assert kinds["up.weight"] == kinds["down.weight"] == "hidden"
    assert kinds["norm.weight"] == kinds["up.bias"] == "vector"
    assert (kinds["head.weight"], kinds["head.bias"]) == ("output", "fixed")


@pytest.mark.parametrize(
    ("make", "kind", "fan_in"),
    [
        (lambda w: nn.Conv2d(w, w, 3), "hidden", 9 * WIDTH),
        (lambda w: nn.Conv2d(3, w, 3), "input", 27),
        (lambda w: nn.Conv2d(w, w, 3, groups=w), "input", 9),
        (lambda w: nn.ConvTranspose1d(w, 3, 2), "output", 2 * BASE),
        (lambda w: nn.Linear(w, 1), "output", BASE),
        (lambda w: nn.Linear(1, w), "input", 1),
    ],
)
def test_layers(make, kind, fan_in):
    found = plan(make, base=BASE, width=WIDTH)["weight"]
    assert found["kind"] == kind
    assert found["init_std"] == pytest.approx(fan_in**-0.5)


def test_attention_and_recurrent_layers_are_understood():
    attention = plan(lambda w: nn.MultiheadAttention(w, 2), base=8, width=16)
    assert {attention[n]["kind"] for n in ("in_proj_weight", "out_proj.weight")} == {"hidden"}
    recurrent = plan(lambda w: nn.LSTM(5, w), base=8, width=16)
    assert (recurrent["weight_ih_l0"]["kind"], recurrent["weight_hh_l0"]["kind"]) == ("input", "hidden")
    assert recurrent["bias_hh_l0"]["init_std"] == 0


def test_nothing_is_allocated_and_no_number_drawn():
    built = []

    def make(width):
        built.append(nn.Sequential(nn.Linear(4, width), nn.Linear(width, 10**7)))
        return built[-1]

    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    plan(make, base=10**5, width=10**6)
    assert {p.device.type for model in built for p in model.parameters()} == {"meta"}
    assert torch.equal(torch.rand(1), expected)


def test_base_width_changes_nothing():
    for optimizer in ("adam", "sgd"):
        for readout in ("forward", "folded"):
            found = plan(Network, base=BASE, width=BASE, optimizer=optimizer, readout=readout)
            assert {e[k] for e in found.values() for k in ("lr_mult", "wd_mult", "fwd_mult")} == {1.0}
    torch.manual_seed(0)
    model, x = Network(BASE), torch.arange(10)[None]
    expected = model(x)
    groups = found.multiply_(model) and found.param_groups(model, 0.1, weight_decay=0.2)
    assert torch.equal(model(x), expected)
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in groups] == [(0.1, 0.2, 9)]


def test_apply_draws_as_planned():
    model, found = (
        Network(1024),
        plan(Network, base=256, width=1024, base_std={"down.*": 0.0, "norm.*": None}),
    )
    found.apply_(model.requires_grad_(False), torch.Generator().manual_seed(0))
    assert float(model.up.weight.std()) == pytest.approx(1 / 32, rel=0.01)
    assert float(model.head.weight.std()) == pytest.approx(1 / 16, rel=0.05)
    assert float(model.embed.weight[1:].std()) == pytest.approx(1, rel=0.05)
    assert not model.embed.weight[0].any()
    assert not model.down.weight.any()
    assert not model.up.bias.any()
    assert bool((model.norm.weight == 1).all())
    again = found.apply_(Network(1024), torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_std_of_a_constant_initialisation():
    found = plan(Network, base=BASE, width=WIDTH, base_std={"*.weight": 0.02})
    assert found["up.weight"]["init_std"] == pytest.approx(0.01)
    assert found["embed.weight"]["init_std"] == found["head.weight"]["init_std"] == 0.02


def test_weight_decay_coupled_and_not():
    model, found = Network(WIDTH), plan(Network, base=BASE, width=WIDTH)
    coupled = found.param_groups(model, 0.1, weight_decay=0.5, undecayed=("*.bias", "norm.*"))
    decays = {(g["lr_mult"], g["weight_decay"]): g["lr"] for g in coupled}
    assert decays == {(1.0, 0.5): 0.1, (0.25, 2.0): 0.025, (1.0, 0.0): 0.1}
    left = found.param_groups(model, 0.1, weight_decay=0.5, decoupled=True)
    assert {(g["lr_mult"], g["weight_decay"]) for g in left} == {(1.0, 0.5), (0.25, 0.5)}
    model.up.weight.requires_grad_(False)
    assert sum(len(g["params"]) for g in found.param_groups(model, 0.1)) == 8
    assert torch.optim.AdamW(coupled).param_groups[1]["lr_mult"] == 0.25


def test_readout_multiplies_once_and_keeps_names():
    found, x = plan(Network, base=BASE, width=WIDTH), torch.arange(10)[None]
    model = Network(WIDTH)
    names = list(model.state_dict())
    bias = model.head.bias
    plain = model(x)
    assert found.multiply_(found.multiply_(model)) is model
    torch.testing.assert_close(model(x) - bias, (plain - bias) / M)
    assert list(model.state_dict()) == names
    other = found.multiply_(Network(WIDTH))
    other.load_state_dict(model.state_dict())
    for same in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(same(x), model(x))
    row = torch.ones(1, WIDTH)
    torch.testing.assert_close(other.head(input=row), other.head(row), rtol=0, atol=0)


@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_folded_readout_trains_alike(rule):
    """Moving the factor from the forward into std and lr changes nothing of what is computed."""
    x, y = torch.randn(32, 8, dtype=torch.float64), torch.randint(0, 3, (32,))

    def make(width):
        return nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 3)).double()

    outputs = []
    for readout in ("forward", "folded"):
        found = plan(make, base=4, width=16, optimizer=rule, readout=readout)
        model = found.multiply_(found.apply_(make(16), torch.Generator().manual_seed(0)))
        groups = found.param_groups(model, 0.1, weight_decay=0.1)
        adam = rule == "adam"
        stepped = torch.optim.AdamW(groups, eps=1e-30) if adam else torch.optim.SGD(groups, lr=0.1)
        for _ in range(5):
            stepped.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            stepped.step()
        outputs.append(model(x).detach())
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-12)


def test_plan_is_saved_and_copied():
    found = plan(Network, base=BASE, width=WIDTH)
    file = io.BytesIO()
    torch.save({"plan": found, "plain": dict(found)}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert isinstance(loaded["plan"], Plan)
    assert loaded["plan"] == found == Plan(loaded["plain"]) == Plan(json.loads(json.dumps(found)))
    for same in (copy.deepcopy(found), copy.copy(found), pickle.loads(pickle.dumps(found))):
        assert isinstance(same, Plan)
        assert same == found
    assert "head.weight" in str(found)
    with pytest.raises(ValueError, match=r"a\.weight lacks lr_mult"):
        Plan({"a.weight": {"kind": "hidden", "shape": [1], "init_std": 1, "wd_mult": 1, "fwd_mult": 1}})


def test_wrapped_models_are_found_by_name():
    found, model = plan(Network, base=BASE, width=WIDTH), Network(WIDTH)
    whole = nn.ModuleDict({"module": torch.compile(model, backend="eager")})
    assert len(found.param_groups(whole, 0.1)) == 2


def test_tied_weights():
    def make(width):
        return Network(width, tied=True)

    with pytest.raises(ValueError, match=r"embed\.weight is embedding and readout at once"):
        plan(make, base=BASE, width=WIDTH)
    with pytest.raises(ValueError, match=r"embed\.weight.*folded"):
        plan(make, base=BASE, width=WIDTH, tied=True, readout="folded")
    found, x = plan(make, base=BASE, width=WIDTH, tied=True), torch.arange(10)[None]
    assert (found["embed.weight"]["init_std"], found["embed.weight"]["lr_mult"]) == (1, 1)
    model = make(WIDTH)
    plain, bias = model(x), model.head.bias
    torch.testing.assert_close(found.multiply_(model)(x) - bias, (plain - bias) / M)


class Bare(nn.Module):
    """A parameter of no layer."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.zeros(shape))


def test_parameters_of_no_layer():
    assert plan(lambda w: Bare(1, 1, w), base=4, width=8)["own"]["kind"] == "vector"
    with pytest.raises(ValueError, match=r"own, \(3, 4\) at base, \(3, 8\) at width, of Bare: say which"):
        plan(lambda w: Bare(3, w), base=4, width=8)
    kinds = [plan(lambda w: Bare(3, w), base=4, width=8, fan_in={"own": i})["own"] for i in (0, 1)]
    assert [found["kind"] for found in kinds] == ["input", "output"]
    with pytest.raises(ValueError, match=r"own is a readout.*folded"):
        Plan({"own": kinds[1]}).multiply_(Bare(3, 8))
    experts = plan(lambda w: Bare(5, w, 3 * w), base=4, width=8, fan_in={"o*": 1})["own"]
    assert (experts["kind"], experts["lr_mult"]) == ("hidden", 0.5)
    assert experts["init_std"] == pytest.approx(8**-0.5)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda w: nn.Linear(3, 3), {}, "no parameter grows between the widths 4 and 8: weight, bias"),
        (lambda w: nn.Linear(3, 3 + w // 16), {"width": 16}, "weight: dimension 0 grows at width 16"),
        (lambda w: nn.ModuleList(nn.Linear(w, w) for _ in range(w)), {}, "4.bias is a parameter at one"),
        (lambda w: nn.LazyLinear(w), {}, "weight is lazy"),
        (lambda w: nn.Embedding(w, w), {}, "weight.*number of rows of an embedding grows"),
        (lambda w: Bare(w, w, w), {"fan_in": {"own": 0}}, "own.*no layer does that"),
        (lambda w: Bare(w, 3), {"fan_in": {"own": 2}}, "fan_in of own is 2; it has dimensions 0 to 1"),
        (lambda w: Bare(*[w] * w), {"delta": 3, "base": 2}, "own has another number of dimensions"),
        (nn.Identity, {}, "no parameter grows.*none"),
        (lambda w: nn.Linear(w, int(torch.ones(1).sum())), {}, "failed on the device 'meta'.*device='cpu'"),
        (lambda w: nn.Linear(w, w), {"base_std": {"head.*": 0}}, r"base_std: 'head\.\*' fits no parameter"),
        (lambda w: nn.Linear(w, w), {"delta": 4}, "delta and base are both 4"),
        (lambda w: nn.Linear(w, w), {"optimizer": "lion"}, "optimizer is 'lion'"),
        (lambda w: nn.Linear(w, w), {"width": 0}, "width is 0"),
    ],
)
def test_errors_name_what_is_at_fault(make, options, message):
    with pytest.raises(ValueError, match=message):
        plan(make, **{"base": 4, "width": 8, **options})


def test_models_of_another_kind_are_refused():
    found = plan(Network, base=BASE, width=WIDTH)
    with pytest.raises(ValueError, match=r"embed\.weight is \(10, 32\); the plan is for"):
        found.apply_(Network(32))
    with pytest.raises(ValueError, match="the model lacks embed"):
        found.multiply_(nn.Linear(2, 2))


def test_attention_scale_follows_the_vector(rules):
    assert rules["adam"]["attention"] == "1/d_head instead of 1/sqrt(d_head)"
    assert attention_scale(32) == 1 / 32
    assert attention_scale(16, base=16) == 1 / math.sqrt(16)
