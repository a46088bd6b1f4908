"""Gram matrices and Fisher information against their definitions, one sample and one window at a time."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional

from equipoise.core.tensorfile import TensorFile
from equipoise.merging import Average, calibrate
from equipoise.merging.inputgrams import InputGrams
from equipoise.merging.merge import prepare
from equipoise.merging.statistics import kind_of


def network():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5), nn.Tanh(), nn.Linear(5, 4)
    )


def images(n=6):
    return torch.randn(n, 2, 4, 4, generator=torch.Generator().manual_seed(1))


def test_the_gram_of_a_linear_layer_is_that_of_its_inputs():
    model, x = network(), images()
    found = calibrate(model, [x[:4], x[4:]], kinds=("gram",))["gram"]
    entering = model[:3](x).double()
    torch.testing.assert_close(found["3.weight"], entering.T @ entering, rtol=1e-6, atol=1e-9)
    assert list(found) == ["0.weight", "3.weight", "5.weight"]
    assert found["3.weight"].dtype == torch.float64


@pytest.mark.parametrize("options", [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (3, 2), "stride": 2, "padding": (2, 1), "dilation": (1, 2)},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    {"kernel_size": 3, "padding": "same", "dilation": 2},
])  # fmt: skip
def test_the_windows_of_a_convolution_times_its_weight_are_its_output(options):
    """tr(W G W^T) is the squared length of all outputs without bias, and the same for any other weight."""
    layer, x = nn.Conv2d(2, 3, bias=False, **options), torch.randn(5, 2, 7, 8)
    with InputGrams(layer) as found, torch.no_grad():
        layer(x)
    gram = found.grams()["weight"]
    for seed in range(3):
        torch.manual_seed(seed)
        other = torch.randn_like(layer.weight)
        out = torch.func.functional_call(layer.double(), {"weight": other.double()}, (x.double(),))
        flat = other.flatten(1).double()
        torch.testing.assert_close((flat @ gram @ flat.T).trace(), out.square().sum(), rtol=1e-9, atol=0.0)


def test_the_gram_of_a_convolution_is_that_of_unfolded_windows():
    layer, x = nn.Conv2d(2, 3, 3, stride=2), torch.randn(5, 2, 7, 8)
    with InputGrams(layer) as found:
        layer(x)
    windows = functional.unfold(x.double(), 3, stride=2).transpose(1, 2).reshape(-1, 18)
    torch.testing.assert_close(found.grams()["weight"], windows.T @ windows, rtol=1e-12, atol=1e-12)


def test_one_and_three_axes_of_convolution():
    for layer, x in [
        (nn.Conv1d(2, 3, 3), torch.randn(4, 2, 9)),
        (nn.Conv3d(1, 2, 2), torch.randn(2, 1, 3, 3, 3)),
    ]:
        with InputGrams(layer) as found:
            out = layer(x) - layer.bias.view(1, -1, *[1] * (x.dim() - 2))
        flat = layer.weight.detach().flatten(1).double()
        torch.testing.assert_close(
            (flat @ found.grams()["weight"] @ flat.T).trace(),
            out.double().square().sum(),
            rtol=1e-5,
            atol=0.0,
        )


def test_layers_without_a_gram_are_named_with_the_reason():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.depthwise = nn.Conv1d(4, 4, 3, groups=4)
            self.unused = nn.Linear(4, 4)
            self.embed = nn.Embedding(5, 4)
            self.head = nn.Linear(4, 5)
            self.head.weight = self.embed.weight
            self.free = nn.Parameter(torch.zeros(2, 2))

        def forward(self, x):
            return self.head(self.depthwise(self.embed(x).mT).mean(-1))

    model = Odd()
    with InputGrams(model) as found:
        model(torch.zeros(1, 4, dtype=torch.long))
    assert found.grams() == {}
    assert found.left_out["depthwise.weight"] == "a convolution of 4 groups"
    assert "never ran" in found.left_out["unused.weight"]
    assert "Embedding" in found.left_out["embed.weight"]
    assert "free" in found.left_out


def test_a_shared_linear_weight_has_one_sum():
    layer, x = nn.Linear(3, 3, bias=False), torch.randn(4, 3)
    model = nn.Sequential(layer, layer)
    found = calibrate(model, [x], kinds=("gram",))["gram"]
    both = torch.cat([x, layer(x).detach()]).double()
    torch.testing.assert_close(found["0.weight"], both.T @ both, rtol=1e-6, atol=1e-9)
    assert torch.equal(found["0.weight"], found["1.weight"])


def test_transposed_weights_of_hugging_face_are_refused_by_name():
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    with pytest.raises(ValueError, match=r"0 \(1 in all\) are stored as \(in, out\)"):
        calibrate(nn.Sequential(conv1d(3, 2)), [torch.ones(1, 2)], kinds=("gram",))
    found = calibrate(nn.Sequential(conv1d(3, 2)), [torch.ones(1, 2)], kinds=("fisher",))
    assert list(found["fisher"]) == ["0.weight", "0.bias"]


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_the_empirical_fisher_is_the_mean_square_of_single_gradients(chunk):
    model, x = network(), images()
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    found = calibrate(model, [(x[:5], y[:5]), (x[5:], y[5:])], kinds=("fisher",), labels="given", chunk=chunk)
    for name, parameter in model.named_parameters():
        right = torch.zeros_like(parameter, dtype=torch.float64)
        for one, label in zip(x, y, strict=True):
            loss = functional.cross_entropy(model(one[None]), label[None])
            right += torch.autograd.grad(loss, parameter)[0].double().square() / len(x)
        torch.testing.assert_close(found["fisher"][name], right, rtol=1e-4, atol=1e-10)


def test_a_loss_of_its_own_serves_as_minus_log_likelihood():
    """For half a squared error the gradient of the bias is the residual."""
    model, x, y = nn.Linear(2, 1), torch.randn(7, 2), torch.randn(7, 1)
    found = calibrate(
        model, [(x, y)], kinds=("fisher",), loss=lambda out, want: (out - want).square().sum() / 2
    )
    right = (model(x) - y).double().square().mean(0)
    torch.testing.assert_close(found["fisher"]["bias"], right, rtol=1e-5, atol=1e-9)


def test_drawn_labels_approach_the_fisher_information_of_the_soft_max():
    """For the bias of a soft-max it is the mean of p (1 - p)."""
    model = nn.Linear(2, 3)
    x = torch.randn(4_000, 2, generator=torch.Generator().manual_seed(0))
    found = calibrate(model, [x], kinds=("fisher",), chunk=4_000, seed=1)["fisher"]
    shares = model(x).softmax(-1).double().detach()
    torch.testing.assert_close(found["bias"], (shares * (1 - shares)).mean(0), rtol=0.06, atol=0.0)
    first, again, other = (calibrate(model, [x[:50]], kinds=("fisher",), seed=s)["fisher"] for s in (1, 1, 2))
    assert torch.equal(first["weight"], again["weight"])
    assert not torch.equal(first["weight"], other["weight"])


def test_the_global_generator_mode_and_buffers_stay():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 2)).train()
    before, draw = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    calibrate(model, [torch.randn(4, 2, generator=torch.Generator().manual_seed(0))])
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(draw, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_samples_stop_within_a_batch_and_files_say_what_they_hold(tmp_path):
    model, x = network(), images()
    found = calibrate(model, iter([x[:4], x[4:], None]), samples=5, out=tmp_path / "a")
    same = calibrate(model, [x[:5]])
    torch.testing.assert_close(found["gram"]["3.weight"], same["gram"]["3.weight"], rtol=1e-4, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fisher.safetensors", "a.gram.safetensors"]
    for kind in ("gram", "fisher"):
        file = TensorFile(tmp_path / f"a.{kind}.safetensors")
        assert kind_of(file) == kind
        assert json.loads(file.metadata["samples"]) == 5
        assert all(torch.equal(file[name], found[kind][name]) for name in found[kind])
    hashes = {TensorFile(path).metadata["model"] for path in tmp_path.iterdir()}
    assert len(hashes) == 1
    calibrate(network(), [x], kinds=("gram",), out=tmp_path / "same")
    assert TensorFile(tmp_path / "same.gram.safetensors").metadata["model"] in hashes
    with torch.no_grad():
        model.get_parameter("3.weight")[0, 0] += 1
    calibrate(model, [x], kinds=("gram",), out=tmp_path / "other")
    assert TensorFile(tmp_path / "other.gram.safetensors").metadata["model"] not in hashes


def test_a_file_of_the_wrong_kind_is_named(tmp_path):
    class Rule(Average):
        statistic = "gram"

    model = network()
    calibrate(model, [images()], kinds=("fisher",), out=tmp_path / "a")
    given = {"left": tmp_path / "a.fisher.safetensors"}
    with pytest.raises(
        ValueError, match=r"statistics of left: .*a.fisher.safetensors holds 'fisher', but Rule asks"
    ):
        prepare({"left": model.state_dict()}, method=Rule(), statistics=given)


def test_mappings_and_language_models_are_served():
    """Logits (n, places, classes); the log-likelihood of a sample is the sum over its places."""

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7)

        def forward(self, input_ids, scale):
            return self.head(self.embed(input_ids)) * scale[:, None, None]

    model = Reader()
    ids = torch.randint(0, 7, (3, 5), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "scale": torch.tensor([1.0, 2.0, 0.5]), "labels": ids.flip(1)}
    found = calibrate(model, [batch], labels="given")
    assert found["gram"]["head.weight"].shape == (4, 4)
    right = torch.zeros(7, dtype=torch.float64)
    for i in range(3):
        logits = model(ids[i : i + 1], batch["scale"][i : i + 1])[0]
        loss = functional.cross_entropy(logits, batch["labels"][i], reduction="sum")
        right += torch.autograd.grad(loss, model.head.bias)[0].double().square() / 3
    torch.testing.assert_close(found["fisher"]["head.bias"], right, rtol=1e-4, atol=1e-9)
    assert "head.weight" in calibrate(model, [{k: v for k, v in batch.items() if k != "labels"}])["fisher"]


def transformer(kind):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"vocab_size": 13, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if kind == "GPT2LMHeadModel":
        config = transformers.GPT2Config(**small, n_embd=8, n_layer=1, n_head=2)
    else:
        width = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = {"BertForMaskedLM": transformers.BertConfig, "LlamaForCausalLM": transformers.LlamaConfig}
        config = config[kind](**small, **width)
    return getattr(transformers, kind)(config).eval()


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "GPT2LMHeadModel", "BertForMaskedLM"])
def test_given_labels_of_transformers_are_taken_as_their_own_loss_takes_them(kind):
    """The next token for those that foretell it; a sample has its mean times the places that count."""
    model = transformer(kind)
    ids = torch.randint(3, 13, (3, 6), generator=torch.Generator().manual_seed(0))
    labels = ids.masked_fill(torch.arange(6) < torch.tensor([[0], [2], [4]]), -100)
    found = calibrate(
        model, [{"input_ids": ids, "labels": labels}], kinds=("fisher",), labels="given", chunk=1
    )
    counted = (labels if kind == "BertForMaskedLM" else labels[:, 1:]).ne(-100).sum(1).tolist()
    parameters = dict(model.named_parameters())
    right = {name: torch.zeros_like(one, dtype=torch.float64) for name, one in parameters.items()}
    for i in range(3):
        loss = model(input_ids=ids[i : i + 1], labels=labels[i : i + 1]).loss * counted[i]
        for name, one in zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True):
            right[name] += one.double().square() / 3
    for name, one in right.items():
        torch.testing.assert_close(found["fisher"][name], one, rtol=1e-3, atol=1e-9)


def test_drawn_labels_of_transformers_need_no_shift_and_pads_draw_none():
    """The information of the bias is the sum of p (1 - p) over places; labels are of the next one."""

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.bias = nn.Embedding(4, 3), nn.Parameter(torch.zeros(3))

        def can_generate(self):
            return True

        def forward(self, input_ids, attention_mask):
            return self.embed(input_ids) + self.bias

    torch.manual_seed(0)
    model, n = Reader(), 4_000
    ids = torch.tensor([[1, 2, 0, 3]]).expand(n, 4)
    mask = torch.tensor([[1, 1, 0, 1]]).expand(n, 4)
    for batch, places in (
        ({"input_ids": ids, "attention_mask": mask}, [0, 1, 3]),
        ({"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(ids == 2, -100)}, [1]),
    ):
        found = calibrate(model, [batch], kinds=("fisher",), labels="drawn", chunk=n)["fisher"]["bias"]
        shares = model.embed.weight[[1, 2, 0, 3]][places].softmax(-1).double().detach()
        torch.testing.assert_close(found, (shares * (1 - shares)).sum(0), rtol=0.08, atol=0.0)


def test_a_missing_folder_is_told_before_anything_is_measured(tmp_path):
    def batches():
        raise AssertionError("measured")
        yield

    with pytest.raises(FileNotFoundError, match=r"cannot write .*none/x: there is no folder"):
        calibrate(network(), batches(), out=tmp_path / "none" / "x")


@pytest.mark.parametrize(("options", "words"), [
    ({"kinds": ("hessian",)}, "kinds are"),
    ({"labels": "given"}, "asks for batches of"),
    ({"loss": lambda out, y: out.sum(), "labels": "drawn"}, "asks for given labels"),
    ({"samples": 0}, "samples is 0"),
])  # fmt: skip
def test_bad_requests_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        calibrate(network(), [images()], **options)


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match="hold no sample"):
        calibrate(network(), [])
