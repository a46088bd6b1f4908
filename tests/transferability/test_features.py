"""Features from live modules, their files, and pools that are read from them."""

import gc
import tracemalloc
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model

from equipoise.transferability import (
    Pool,
    extract_features,
    logme,
    model_pool,
    rank,
    read_features,
    save_features,
    write_features,
)


class Net(nn.Module):
    """A network with batch normalisation and dropout, which behave otherwise in training."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def batches():
    draw = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 4, generator=draw), torch.arange(n) % 3) for n in (8, 8, 5)]


def test_the_input_of_the_last_linear_and_the_soft_max_of_the_output(net, batches):
    sample = extract_features(net, batches)
    net.eval()
    x = torch.cat([x for x, _ in batches])
    with torch.no_grad():
        body, logits = net.body(x), net(x)
    np.testing.assert_allclose(sample.features, body, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sample.probabilities, logits.softmax(1), rtol=1e-5, atol=1e-6)
    assert sample.labels.tolist() == [i for n in (8, 8, 5) for i in (np.arange(n) % 3).tolist()]


def test_the_model_is_left_as_it_was(net, batches):
    net.train()
    net.body[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    extract_features(net, batches, layer="body.2")
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not net.body[2]._forward_hooks
    with pytest.raises(RuntimeError):
        extract_features(net, [(torch.ones(2, 9), torch.zeros(2))])
    assert [module.training for module in net.modules()] == modes
    assert not net.head._forward_hooks


def test_a_named_layer_gives_its_output_or_its_input(net, batches):
    outputs = extract_features(net, batches, layer="body.0").features
    assert outputs.min() < 0
    np.testing.assert_array_equal(extract_features(net, batches, layer="body.1:input").features, outputs)


def test_sequences_and_pixels_are_reduced_to_a_row():
    ones = torch.arange(24.0).reshape(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])

    class Echo(nn.Module):
        def forward(self, x, attention_mask=None):
            return x

    kept = extract_features(Echo(), [{"x": ones, "attention_mask": mask, "labels": [0, 1]}])
    assert kept.features.tolist() == [[2.0, 3.0, 4.0, 5.0], [12.0, 13.0, 14.0, 15.0]]
    pixels = extract_features(Echo(), [(ones.reshape(2, 3, 2, 2), [0, 1])])
    assert pixels.features.tolist() == ones.mean(2).tolist()
    last = extract_features(Echo(), [(ones, [0, 1])], reduce=lambda x, mask: x[:, -1])
    assert last.features.tolist() == ones[:, -1].tolist()
    assert not last.has("probabilities")


def test_faults_name_the_layer(net, batches):
    with pytest.raises(ValueError, match=r"no layer is called 'body\.9'; nearest: "):
        extract_features(net, batches, layer="body.9")
    net.spare = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="the layer spare was not called"):
        extract_features(net, batches, layer="spare")
    with pytest.raises(ValueError, match="no batches"):
        extract_features(net, [])


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_a_file_gives_what_was_extracted(net, batches, tmp_path, ending):
    path = save_features(tmp_path / f"net.{ending}", net, batches, facts={"source accuracy": 0.5})
    direct, read = extract_features(net, batches), read_features(path)
    assert read.name == "net"
    np.testing.assert_array_equal(read.features, direct.features)
    np.testing.assert_array_equal(read.labels, direct.labels)
    np.testing.assert_array_equal(read.probabilities, direct.probabilities)
    assert list(tmp_path.iterdir()) == [path]
    static = Pool.from_folder(tmp_path).static
    again = save_features(path, net, batches, facts={"source accuracy": 0.5, "loss": 9.0, "epoch": 3})
    assert Pool.from_folder(tmp_path).static == static  # a loss is not better for being higher
    assert Pool.from_folder(tmp_path, facts=["epoch"]).static == {"epoch": {again.stem: 3.0}}
    assert static == {
        "parameters": {"net": float(sum(p.numel() for p in net.parameters()))},
        "source accuracy": {"net": 0.5},
    }


@pytest.mark.parametrize("dtype", ["f4", "i8"])
def test_labels_are_numbers_where_that_is_said(net, batches, tmp_path, dtype):
    """Whole numbers that repeat, such as ratings: a float is refused unless told, an integer is a class."""
    rated = [(x, (y % 3).numpy().astype(dtype)) for x, y in batches]
    pools = {
        "folder": Pool.from_folder(save_features(tmp_path / "net.npz", net, rated).parent, numbers=True),
        "given": Pool.from_folder(tmp_path, np.concatenate([y for _, y in rated]), numbers=True),
        "live": model_pool({"net": net}, rated, numbers=True),
    }
    samples = {"extracted": extract_features(net, rated, numbers=True)}
    samples |= {way: pool["net"] for way, pool in pools.items()}
    for way, sample in samples.items():
        assert not sample.is_classes, way
        assert sample.targets().ravel().tolist() == [float(i) for n in (8, 8, 5) for i in np.arange(n) % 3]
    if dtype == "i8":
        assert extract_features(net, rated).is_classes
        assert Pool.from_folder(tmp_path)["net"].is_classes
        assert model_pool({"net": net}, rated)["net"].is_classes
        return
    for untold in (
        lambda: extract_features(net, rated),
        lambda: Pool.from_folder(tmp_path)["net"],
        lambda: model_pool({"net": net}, rated)["net"],
    ):
        with pytest.raises(ValueError, match=r"whole floating-point numbers of 3 values; .*numbers=True"):
            untold()


def test_files_made_by_numpy_and_others_are_read(tmp_path):
    x = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float16)
    y = np.array(["cat", "dog", "ant"])[np.arange(30) % 3]
    np.savez(tmp_path / "a.npz", features=x, labels=y)
    np.savez_compressed(tmp_path / "b.npz", features=x, labels=y)
    save_file({"features": torch.from_numpy(x).bfloat16()}, tmp_path / "c.safetensors")
    np.savez(tmp_path / "d.npz", features=np.asfortranarray(x), labels=y)
    pool = Pool.from_folder(tmp_path, labels=y)
    for name in "abd":
        np.testing.assert_array_equal(pool[name].features, x.astype(float))
        assert pool[name].classes.tolist() == ["ant", "cat", "dog"]
    np.testing.assert_allclose(pool["c"].features, x, rtol=1e-2)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_files_are_not_held_in_memory(tmp_path, ending):
    """100 MB are written and scored by chunks of 8 MB in float64: less than 40 MB are ever allocated."""
    draw = np.random.default_rng(0)
    chunk = draw.standard_normal((2000, 256)).astype(np.float32)
    chunks = ((chunk * (1 + i), np.arange(2000) % 5, None) for i in range(50))
    tracemalloc.start()
    path = write_features(tmp_path / f"big.{ending}", chunks)
    assert path.stat().st_size > 100e6
    assert np.isfinite(logme(read_features(path)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 40e6


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda f: np.savez(f / "a.npz", x=np.ones((2, 2))), "holds x; a model's file holds features"),
        (lambda f: (f / "a.npz").write_bytes(b"no archive"), "a.npz is not a readable .npz"),
        (lambda f: (f / "a.safetensors").write_bytes(b"nothing"), "a.safetensors: not a readable"),
        (lambda f: np.savez(f / "a.npz", features=np.ones(3), labels=[0, 1, 1]), r"a: features have shape"),
        (lambda f: None, "holds no features: files NAME.npz"),
        (
            lambda f: (np.savez(f / "a.npz", features=np.ones((2, 2))), save_file({}, f / "a.safetensors")),
            "a lies there as .npz and as .safetensors",
        ),
    ],
)
def test_bad_files_are_named(tmp_path, write, words):
    write(tmp_path)
    with pytest.raises(ValueError, match=words):
        rank(Pool.from_folder(tmp_path), bootstrap=0)


def test_chunks_that_differ_are_refused(tmp_path):
    bad = [(np.ones((2, 3)), np.zeros(2), None), (np.ones((2, 4)), np.zeros(2), None)]
    with pytest.raises(ValueError, match="the chunk from sample 2 on is unlike"):
        write_features(tmp_path / "a.npz", bad)
    with pytest.raises(ValueError, match=r"text; write \.npz"):
        write_features(tmp_path / "a.safetensors", [(np.ones((2, 3)), np.array(["a", "b"]), None)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("chunk", "facts", "words"),
    [
        ((np.ones((2, 3)), np.array(["a", 1], object), None), {}, "labels are object; give numbers or text"),
        ((np.ones((2, 3), object), [0, 1], None), {}, "features are object; give numbers"),
        ((np.ones((2, 3)), [0, 1], None), {"file": 1.0}, "'file' is a part of the file"),
        ((np.ones((2, 3)), [0, 1], None), {"parameters": float("nan")}, "'parameters' is nan; give finite"),
    ],
)
def test_what_no_file_can_hold_is_refused(tmp_path, chunk, facts, words):
    with pytest.raises(ValueError, match=words):
        write_features(tmp_path / "a.npz", [chunk], facts)
    assert list(tmp_path.iterdir()) == []


def test_labels_that_are_text_objects_are_written_as_text(tmp_path):
    labels = np.array(["cat", "a dog"], object)
    chunks = [(np.ones((2, 3)), labels, None), (np.ones((2, 3)), labels[::-1], None)]
    read = read_features(write_features(tmp_path / "a.npz", chunks))
    assert read.classes[read.labels].tolist() == ["cat", "a dog", "a dog", "cat"]


def test_the_model_is_left_as_it_was_where_the_file_cannot_be_written(net, tmp_path):
    net.train()
    odd = [(torch.ones(2, 4), [{}, {}])]
    with pytest.raises(ValueError, match="labels are object") as caught:
        save_features(tmp_path / "a.npz", net, odd)
    assert caught.value is not None  # its traceback holds every frame, and with them the generator
    assert net.training
    assert torch.is_grad_enabled()
    assert not net.head._forward_hooks


def test_the_users_batches_are_made_with_gradients(net):
    def batches():
        for _ in range(2):
            seen.append(torch.is_grad_enabled())
            yield torch.ones(2, 4), [0, 1]

    seen: list[bool] = []
    extract_features(net, batches())
    assert seen == [True, True]


def test_the_default_layer_is_the_linear_that_is_called_last():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)
            self.body = nn.Linear(6, 4)
            self.unused = nn.Linear(1, 1)

        def forward(self, x):
            return {"logits": self.head(input=self.body(x))}  # by keyword

    torch.manual_seed(0)
    model, x = Late(), torch.randn(5, 6)
    found = extract_features(model, [(x, [0, 1, 0, 1, 0])])
    np.testing.assert_array_equal(found.features, model.body(x).detach().numpy())
    said = model(x)["logits"].softmax(1).detach().numpy()
    np.testing.assert_allclose(found.probabilities, said, rtol=1e-6)
    with pytest.raises(ValueError, match="features of the input of the Linear head have shape"):
        extract_features(model, [(x, [0, 1, 0, 1, 0])], reduce=lambda rows, mask: rows[:2])


def test_a_tuple_gives_probabilities_only_where_one_part_can_be_logits():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            return (x, self.head(x)) if x[0, 0] > 0 else (x[:, None], self.head(x))

    torch.manual_seed(0)
    model, x = Pair(), torch.rand(5, 6) + 0.1
    assert not extract_features(model, [x]).has("probabilities")
    found = extract_features(model, [-x]).probabilities
    np.testing.assert_allclose(found, model.head(-x).softmax(1).detach().numpy(), rtol=1e-6)


def test_models_given_in_every_way_are_one_pool(net, batches, tmp_path):
    """A module, a function, safetensors with a builder; and no more than one built model at a time."""
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    pool = model_pool({"module": net, "built": lambda: net}, batches, facts={"built": {"cost": 2}})
    loaded = model_pool({"file": tmp_path / "net.safetensors"}, batches, build=Net)
    np.testing.assert_array_equal(pool["module"].features, pool["built"].features)
    np.testing.assert_array_equal(pool["module"].features, loaded["file"].features)
    assert pool.static["cost"] == {"built": 2.0}
    assert set(pool.static["parameters"]) == {"module", "built"}
    rounds = {f"client{i}": Net() for i in range(3)}
    assert list(model_pool(rounds, batches)) == ["client0", "client1", "client2"]


def test_a_temporary_pool_takes_its_folder_along(net, batches, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert Path(gettempdir()) == tmp_path
    pool = model_pool({"net": net}, batches)
    assert [path.name for path in tmp_path.rglob("*.npz")] == ["net.npz"]
    del pool
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="a: mat1"):
        model_pool({"a": nn.Linear(9, 2)}, batches)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_temporary_pool_keeps_the_folder(net, batches, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    part = model_pool({"a": net, "b": net}, batches).of(["b"])
    gc.collect()
    assert part["b"].features.shape[1] == net.head.in_features
    del part
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_what_lies_in_the_folder_besides_is_not_looked_at(net, batches, tmp_path):
    (tmp_path / "other.npz").write_bytes(b"no archive")
    assert list(model_pool({"net": net}, batches, folder=tmp_path)) == ["net"]


def test_every_error_of_a_model_names_it(batches):
    class Odd(nn.Module):
        def forward(self, x):
            return [][0]

    with pytest.raises(ValueError, match="odd: IndexError: list index out of range"):
        model_pool({"odd": Odd()}, batches)


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ({}, "holds no models"),
        ({"a/b": None}, "the model name 'a/b' cannot be that of a file"),
        ([("a", Net()), ("a", Net())], "two models are called a"),
        ({"a": lambda: 3}, "a: the function of the model gave int"),
        ({"a": "nowhere"}, "a: nowhere is no folder of a transformers model"),
        ({"a": nn.Linear(9, 2)}, "a: mat1 and mat2"),
    ],
)
def test_bad_models_are_named(models, words, batches):
    with pytest.raises(ValueError, match=words):
        model_pool(models, batches)


def test_batches_that_end_after_one_model_are_refused(net, batches):
    with pytest.raises(ValueError, match="batches are an iterator"):
        model_pool({"a": net}, iter(batches))


def test_encoders_of_transformers_are_pooled_as_they_pool(tmp_path):
    torch.manual_seed(0)
    bert = BertModel(
        BertConfig(
            vocab_size=30,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=12,
        )
    )
    gpt = GPT2Model(GPT2Config(vocab_size=30, n_positions=12, n_embd=16, n_layer=1, n_head=2))
    for name, model in (("bert", bert), ("gpt", gpt)):
        model.save_pretrained(tmp_path / name)
    ids = torch.randint(0, 30, (10, 8))
    mask = (torch.arange(8) < torch.arange(10)[:, None] % 7 + 2).long()
    batch = {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(10) % 2}
    pool = model_pool({name: tmp_path / name for name in ("bert", "gpt")}, [batch])
    with torch.no_grad():
        pooled = bert.eval()(ids, attention_mask=mask).pooler_output
        hidden = gpt.eval()(ids, attention_mask=mask).last_hidden_state
    np.testing.assert_allclose(pool["bert"].features, pooled, atol=1e-5)
    means = torch.stack([row[keep.bool()].mean(0) for row, keep in zip(hidden, mask, strict=True)])
    np.testing.assert_allclose(pool["gpt"].features, means, atol=1e-5)
    assert not pool["bert"].has("probabilities")
