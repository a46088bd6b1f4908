"""What an inspection measures in weights: worked values, other routes to the same, and repeatability."""

import json
from math import exp, log, sqrt

import pytest
import torch
from safetensors.torch import save_file

from equipoise import NonFiniteDirection, diagnose, task_vectors
from equipoise.merging import inspect
from equipoise.merging.block import CHUNK


def drawn(seed, *, dtype=torch.float32, scale=1.0):
    draw = torch.Generator().manual_seed(seed)
    shapes = {
        "embed.weight": (CHUNK // 5 + 7, 6),
        "layers.0.wide": (5, 9),
        "layers.1.conv": (4, 3, 2, 2),
        "layers.1.wide": (5, 9),
        "scale": (),
    }
    return {
        name: (scale * torch.randn(shape, generator=draw)).to(dtype) for name, shape in shapes.items()
    } | {"count": torch.tensor([7])}


def models(dtype=torch.float32):
    return {name: drawn(seed, dtype=dtype) for seed, name in enumerate("abc", 1)}, drawn(0, dtype=dtype)


def test_lengths_angles_and_signs_of_a_worked_case():
    base = {"w": torch.tensor([0.0, 6.0, 0.0, 8.0])}
    deltas = {"a": [3.0, 4.0, 0.0, 0.0], "b": [3.0, -4.0, 0.0, 12.0]}
    found = inspect({name: {"w": base["w"] + torch.tensor(d)} for name, d in deltas.items()}, base)
    total = found.weights.total
    assert total.norms == (5.0, 13.0)
    assert total.distances == (0.5, 1.3)
    assert total.zeros == (0.5, 0.25)
    assert total.cosines[0][1] == pytest.approx((9 - 16) / (5 * 13))
    assert total.conflicts[0][1] == 0.5  # of the two entries where both moved
    assert total.weighted[0][1] == pytest.approx(16 / 25)
    assert found.weights.differences[0][1] == pytest.approx(sqrt(64 + 144) / 10)


def test_angles_are_those_of_the_bundle_of_task_vectors(tmp_path):
    given, base = models()
    paths = {name: tmp_path / f"{name}.safetensors" for name in (*given, "base")}
    for name, tensors in {**given, "base": base}.items():
        save_file(tensors, paths[name])
    origin = paths.pop("base")
    found = inspect(paths, origin)
    right = diagnose(task_vectors(paths, origin))
    assert found == inspect(given, base)
    torch.testing.assert_close(torch.tensor(found.weights.total.cosines), torch.tensor(right.cosines))
    torch.testing.assert_close(torch.tensor(found.weights.total.norms), torch.tensor(right.norms))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_threads_change_no_bit(dtype):
    given, base = models(dtype)
    found = [inspect(given, base, threads=threads).to_json() for threads in (1, 3, 3)]
    assert found[0] == found[1] == found[2]


def test_layers_and_the_total_add_up():
    given, base = models()
    weights = inspect(given, base).weights
    assert [layer.name for layer in weights.layers] == ["embed", "layers.0", "layers.1", "scale"]
    for kind in (weights.tensors, weights.layers):
        assert sum(region.size for region in kind) == weights.total.size
        for i in range(3):
            assert sum(region.norms[i] ** 2 for region in kind) == pytest.approx(weights.total.norms[i] ** 2)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (3, 5, 1, 1)], ids=["wide", "tall", "convolution"])
def test_ranks_are_those_of_known_singular_values(shape):
    draw = torch.Generator().manual_seed(0)
    rows, columns = shape[:2]
    left = torch.linalg.qr(torch.randn(rows, rows, generator=draw, dtype=torch.float64))[0][:, :2]
    right = torch.linalg.qr(torch.randn(columns, columns, generator=draw, dtype=torch.float64))[0][:, :2]

    def delta(*values):
        return (left * torch.tensor(values, dtype=torch.float64) @ right.T).view(shape)

    base = {"w": torch.ones(shape, dtype=torch.float64)}
    given = {
        "two": delta(3.0, 1.0),
        "one": delta(0.0, 2.0),
        "other": delta(5.0, 0.0),
        "none": delta(0.0, 0.0),
    }
    spectrum = (
        inspect({name: {"w": base["w"] + d} for name, d in given.items()}, base).weights.tensors[0].spectrum
    )
    assert spectrum.side == 3
    entropy = -0.75 * log(0.75) - 0.25 * log(0.25)
    assert spectrum.effective_ranks[:3] == pytest.approx((exp(entropy), 1, 1), abs=1e-6)
    assert spectrum.stable_ranks[:3] == pytest.approx((10 / 9, 1, 1))
    assert spectrum.effective_ranks[3] is None
    assert spectrum.leading == 1
    assert spectrum.overlaps[0][2] == pytest.approx(1)  # the leading direction of both
    assert spectrum.overlaps[0][1] == pytest.approx(0, abs=1e-12)
    assert spectrum.overlaps[0][3] is None


def test_matrices_beyond_the_limit_are_named_and_not_decomposed():
    given, base = models()
    found = inspect(given, base, spectra=4)
    assert found.unranked == ("embed.weight", "layers.0.wide", "layers.1.wide")
    assert "3 large matrices" in str(found)
    assert [region.name for region in found.weights.tensors if region.spectrum] == ["layers.1.conv"]
    assert found.weights.total == inspect(given, base, spectra=0).weights.total


def test_a_base_a_duplicate_and_an_opposite_among_the_models():
    base = drawn(0)
    one = drawn(1, scale=0.1)
    moved = {n: base[n] + one[n] if base[n].is_floating_point() else base[n] for n in base}
    opposite = {n: base[n] - one[n] if base[n].is_floating_point() else base[n] for n in base}
    found = inspect({"same": dict(base), "up": moved, "twin": moved, "down": opposite}, base)
    total = found.weights.total
    assert total.distances[0] == 0
    assert total.cosines[0] == (None,) * 4
    assert total.zeros[0] == 1
    assert total.conflicts[1][2] == total.weighted[1][2] == 0
    assert total.cosines[1][3] == pytest.approx(-1, abs=1e-6)
    assert total.conflicts[1][3] == total.weighted[1][3] == 1
    words = " ".join(found.reading().warnings)
    assert "nothing to merge: same" in words
    assert "same model twice: up and twin" in words
    assert "up and down" in " ".join(found.reading().advice)
    json.loads(found.to_json())


def test_a_model_without_a_tensor_does_not_count_there():
    given, base = models()
    del given["b"]["layers.0.wide"]
    with pytest.raises(ValueError, match=r"layers\.0\.wide"):
        inspect(given, base)
    found = inspect(given, base, on_missing="skip")
    region = next(region for region in found.weights.tensors if region.name == "layers.0.wide")
    assert region.norms[1] is None
    assert region.cosines[1] == (None,) * 3
    assert region.cosines[0][2] is not None
    assert found.weights.total.norms[1] is not None
    assert "layers.0" in str(found)


def test_models_that_changed_other_layers_have_no_lowest_layer():
    base = {f"layers.{i}.w": torch.ones(3, 3) for i in range(2)}
    given = {name: {**base, f"layers.{i}.w": torch.zeros(3, 3)} for i, name in enumerate("ab")}
    found = inspect(given, base)
    assert found.weights.total.cosines[0][1] == 0
    (row,) = [line for line in str(found).splitlines() if line.startswith("a, b")]
    assert row.split()[-1] == "-"
    assert found.page().startswith("<!")


def test_a_base_of_zeros_is_not_what_models_are_equal_to():
    base = {"w": torch.zeros(2)}
    reading = inspect({"a": {"w": torch.ones(2)}, "b": base}, base).reading()
    assert [words for words in reading.warnings if "nothing to merge" in words] == [
        "Equal to the base, so nothing to merge: b."
    ]


def test_one_model():
    given, base = models()
    found = inspect({"a": given["a"]}, base)
    assert found.weights.total.cosines == ((1.0,),)
    assert "One model" in str(found)


def test_values_that_are_not_finite_are_named():
    given, base = models()
    given["b"]["layers.0.wide"][1, 1] = torch.nan
    with pytest.raises(NonFiniteDirection, match=r"layers\.0\.wide"):
        inspect(given, base)


def test_a_base_of_integers_alone_has_nothing_to_compare():
    count = {"count": torch.tensor([1])}
    with pytest.raises(ValueError, match="floating-point"):
        inspect({"a": count}, count)


@pytest.mark.parametrize("far", [False, True])
def test_without_data_the_weights_give_a_hint_and_no_verdict(far):
    base = drawn(0)
    given = {
        name: {
            n: t + drawn(seed, scale=1.0 if far else 0.01)[n] if t.is_floating_point() else t
            for n, t in base.items()
        }
        for seed, name in enumerate("ab", 1)
    }
    reading = inspect(given, base).reading()
    assert reading.below is None
    assert ("cannot tell" in " ".join(reading.warnings)) == far
    assert any("evaluate" in words for words in reading.advice)


def test_the_text_stays_short_for_many_models():
    base = drawn(0)
    given = {f"model_{seed}": drawn(seed) for seed in range(1, 12)}
    words = str(inspect(given, base))
    assert len(words.splitlines()) <= 30
    assert "and 5 models nearer to the base" in words
    assert "and 49 pairs with a larger cosine" in words
