"""What is measured of a model: losses, scores, lengths of gradients, labels."""

from dataclasses import dataclass
from math import isnan

import pytest
import torch
from tests.federated.small import Small, dealt
from torch import nn

from equipoise.federated.engine import measure
from equipoise.federated.engine.measure import ask, by_client, evaluate

MODEL = nn.Linear(64, 10, dtype=torch.float64)


def whole(place):
    """Loss, its gradient's length and the share of right answers of client `place`, written out."""
    images, labels = dealt(place, "train")
    logits = MODEL(images)
    loss = nn.functional.cross_entropy(logits, labels)
    gradients = torch.autograd.grad(loss, list(MODEL.parameters()))
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    return loss.item(), length.item(), (logits.argmax(1) == labels).double().mean().item()


@pytest.mark.parametrize("chunk", [2048, 5])
def test_losses_and_gradients_are_those_of_all_examples(monkeypatch, chunk):
    monkeypatch.setattr(measure, "CHUNK", chunk)
    for place, name in enumerate("abc"):
        held = Small().examples(name, "train")
        found = ask(("loss", "gradient_norm", "label_counts"), Small(), MODEL, name, held)
        loss, length, _ = whole(place)
        assert found["loss"].item() == pytest.approx(loss, rel=1e-12)
        assert found["gradient_norm"].item() == pytest.approx(length, rel=1e-12)
        assert (
            found["label_counts"].tolist() == torch.bincount(dealt(place, "train")[1], minlength=10).tolist()
        )
        assert ask(("loss",), Small(), MODEL, name, held)["loss"].item() == pytest.approx(loss, rel=1e-12)
        assert {tensor.dtype for tensor in found.values()} == {torch.float64}


def test_a_model_is_judged_on_each_clients_examples():
    found = evaluate(Small(), dict.fromkeys("abcde", MODEL), "abcde", "train")
    for place, name in enumerate("abcde"):
        loss, _, score = whole(place)
        assert found[name]["loss"] == pytest.approx(loss, rel=1e-12)
        assert found[name]["score"] == pytest.approx(score)


def test_clients_with_models_of_their_own_are_judged_by_them():
    other = nn.Linear(64, 10, dtype=torch.float64)
    found = evaluate(Small(), {"a": MODEL, "b": other, "c": MODEL}, "abc", "train")
    same = evaluate(Small(), dict.fromkeys("abc", MODEL), "abc", "train")
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == pytest.approx(same["a"])
    assert found["b"] != same["b"]


def test_a_client_without_examples_is_not_a_number_and_does_not_disturb():
    found = evaluate(Small(empty="b"), dict.fromkeys("abc", MODEL), "abc", "train")
    assert isnan(found["b"]["loss"])
    assert found["c"]["loss"] == pytest.approx(whole(2)[0], rel=1e-12)
    assert isnan(evaluate(Small(empty="a"), {"a": MODEL}, "a", "train")["a"]["score"])


@dataclass
class Ragged(Small):
    """Clients whose images differ in size."""

    def examples(self, client, split):
        images, labels = super().examples(client, split)
        return images[:, : 64 - 4 * "abcde".index(client)], labels

    def losses(self, model, batch):
        return batch[0].sum(1)


def test_examples_of_several_shapes_are_gone_through_client_by_client():
    held = {name: Ragged().examples(name, "train") for name in "abc"}
    found = by_client(Ragged().losses, MODEL, held)
    assert found == pytest.approx({name: images.sum(1).mean().item() for name, (images, _) in held.items()})


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_put_back_even_after_an_error(training):
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 10, dtype=torch.float64)).train(training)
    held = Small().examples("a", "train")
    first = ask(("loss", "gradient_norm"), Small(), model, "a", held)
    again = ask(("loss", "gradient_norm"), Small(), model, "a", held)
    assert first == again
    with pytest.raises(IndexError):
        ask(("loss",), Small(), model, "a", (held[0], held[1] + 90))
    with pytest.raises(IndexError):
        evaluate(Small(spoilt="a"), {"a": model}, "a", "train")
    assert model.training == training
