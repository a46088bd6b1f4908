"""Models that do not match are told by file and tensor before a byte is written, or merged by a policy."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from equipoise.core.errors import NonFiniteDirection
from equipoise.merging import Average, TaskArithmetic, merge
from equipoise.merging.matching import Wanted
from equipoise.merging.merge import carry_out, prepare

DRAW = torch.Generator().manual_seed(0)


def model(**more):
    shapes = {"embed_tokens.weight": (5, 3), "layers.0.w": (4, 3), "layers.1.w": (4, 3), "norm": (3,)}
    found = {name: torch.randn(shape, generator=DRAW) for name, shape in shapes.items()}
    return {**found, **more}


def without(tensors, *names):
    return {name: one for name, one in tensors.items() if name not in names}


def folder(path, tensors, config=None, tokens=None, added=()):
    path.mkdir()
    save_file({name: one.contiguous() for name, one in tensors.items()}, path / "model.safetensors")
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    if tokens is not None:
        vocab = {"model": {"vocab": tokens}, "added_tokens": list(added)}
        (path / "tokenizer.json").write_text(json.dumps(vocab))
    return path


def test_all_faults_come_at_once_with_file_and_tensor(tmp_path):
    base = folder(tmp_path / "base", model())
    one = folder(tmp_path / "one", without(model(), "norm"))
    two = folder(tmp_path / "two", {**model(), "layers.0.w": torch.ones(3, 4), "more": torch.ones(1)})
    with pytest.raises(ValueError, match="do not match") as error:
        merge([one, two], base, method=TaskArithmetic(), out=tmp_path / "out")
    words = str(error.value)
    assert f"{one}: tensor 'norm' of {base} is missing" in words
    assert f"{two}: tensor 'more' is not in {base}" in words
    assert f"{two}: tensor 'layers.0.w' has shape (3, 4), in {base} (4, 3)" in words
    assert not (tmp_path / "out").exists()


def test_a_long_list_of_faults_is_cut():
    base = {f"t{i}": torch.ones(1) for i in range(50)}
    with pytest.raises(ValueError, match=r"and 30 more$"):
        merge({"a": {}}, base, method=TaskArithmetic())


def test_missing_is_the_bases_or_does_not_count():
    base, one, two = model(), model(), model()
    given = {"one": one, "two": without(two, "norm")}
    filled = merge(given, base, method=Average(), on_missing="base")
    skipped = merge(given, base, method=Average(), on_missing="skip")
    torch.testing.assert_close(filled["norm"], (one["norm"] + base["norm"]) / 2)
    assert torch.equal(skipped["norm"], one["norm"])
    torch.testing.assert_close(skipped["layers.0.w"], (one["layers.0.w"] + two["layers.0.w"]) / 2)
    added = merge(given, base, method=TaskArithmetic(), on_missing="base")
    torch.testing.assert_close(added["norm"], one["norm"])
    notes = prepare(given, base, method=Average(), on_missing="skip").notes
    assert notes == ("two: tensor 'norm' missing: it does not count there",)


def test_what_only_the_base_has_is_copied():
    base = model()
    given = {"one": without(model(), "norm"), "two": without(model(), "norm")}
    assert torch.equal(merge(given, base, method=TaskArithmetic(), on_missing="skip")["norm"], base["norm"])


def test_what_the_base_lacks_is_left_out_or_merged_of_those_who_have_it():
    base, head = model(), torch.ones(2, 3)
    given = {"one": model(head=head), "two": model()}
    assert "head" not in merge(given, base, method=TaskArithmetic(), on_missing="base")
    assert torch.equal(merge(given, base, method=Average(), on_missing="skip")["head"], head)
    with pytest.raises(ValueError, match=r"'head' is not in the base base, from which TaskArithmetic starts"):
        merge(given, base, method=TaskArithmetic(), on_missing="skip")


def test_without_a_base_nothing_can_stand_in():
    with pytest.raises(ValueError, match="name a base"):
        merge([model()], method=Average(), on_missing="base")


@pytest.mark.parametrize("words", ["module.", "model.", "base_model.model.", "_orig_mod.", "net.module."])
def test_a_prefix_is_named(words):
    base = model()
    with pytest.raises(ValueError, match=rf"one: names hold '{words}' where those of base do not"):
        merge({"one": {words + name: one for name, one in base.items()}}, base, method=TaskArithmetic())


def test_a_wrapper_inside_names_is_named():
    base = model()
    inner = {name.replace("layers.", "layers._orig_mod."): one for name, one in base.items()}
    with pytest.raises(ValueError, match=r"'_orig_mod.'"):
        merge({"one": inner}, base, method=TaskArithmetic())


def test_rows_of_vocabularies():
    base, one, two = model(), model(), model()
    one["embed_tokens.weight"] = torch.randn(7, 3, generator=DRAW)
    two["embed_tokens.weight"] = torch.randn(8, 3, generator=DRAW)
    given, name = {"one": one, "two": two}, "embed_tokens.weight"
    with pytest.raises(ValueError, match=r"\(7, 3\), in base \(5, 3\); choose vocab='intersect'"):
        merge(given, base, method=TaskArithmetic())
    rule = TaskArithmetic(scale=0.5)
    shared = base[name] + 0.5 * (one[name][:5] - base[name] + two[name][:5] - base[name])
    cut = merge(given, base, method=rule, vocab="intersect")[name]
    torch.testing.assert_close(cut, shared)
    union = merge(given, base, method=rule, vocab="union")[name]
    torch.testing.assert_close(union[:5], shared)
    torch.testing.assert_close(union[5:7], (one[name][5:7] + two[name][5:7]) / 2)
    assert torch.equal(union[7], two[name][7])
    found = prepare(given, base, method=rule, vocab="union")
    assert any("3 rows that the base lacks" in note for note in found.notes)
    assert any("the base: 5, one: 7, two: 8" in note for note in found.notes)


def test_rows_that_the_base_alone_has_stay():
    base, one = model(), model()
    one["embed_tokens.weight"] = one["embed_tokens.weight"][:3]
    method = TaskArithmetic(weight={"one": 1.0})
    merged = merge({"one": one}, base, method=method, vocab="union")["embed_tokens.weight"]
    torch.testing.assert_close(merged[:3], one["embed_tokens.weight"])
    assert torch.equal(merged[3:], base["embed_tokens.weight"][3:])


def test_a_layer_is_no_vocabulary():
    one = {**model(), "layers.0.w": torch.ones(5, 3)}
    with pytest.raises(ValueError, match=r"'layers.0.w' has shape"):
        merge([one], model(), method=Average(), vocab="union")


@pytest.mark.parametrize(
    ("name", "by_token"),
    [
        ("model.embed_tokens.weight", True),
        ("transformer.wte.weight", True),
        ("text_model.embeddings.token_embedding.weight", True),
        ("shared.weight", True),
        ("lm_head.weight", True),
        ("lm_heads.0.weight", True),
        ("cls.predictions.decoder.weight", True),
        ("output.weight", True),
        ("vocab_projector.weight", True),
        ("decoder.layers.0.multihead_attn.in_proj_weight", False),
        ("multihead_attn.in_proj_weight", False),
        ("layers.0.mlp.shared_expert.up_proj.weight", False),
        ("mlp.shared_expert.up_proj.weight", False),
        ("encoder.layer.0.output.dense.weight", False),
        ("layers.0.head.weight", False),
    ],
)
def test_embeddings_and_heads_are_told_by_whole_words_outside_of_layers(name, by_token):
    models = [{name: torch.ones(4, 3)}, {name: torch.ones(6, 3)}]
    if by_token:
        assert merge(models, method=Average(), vocab="intersect")[name].shape == (4, 3)
    else:
        with pytest.raises(ValueError, match=r"has shape \(6, 3\), in model_0 \(4, 3\)$"):
            merge(models, method=Average(), vocab="intersect")


@pytest.mark.parametrize("tokens", [{"a": 0, "b": 1, "X": 2}, [["a", 0.0], ["b", 0.0], ["X", 0.0]]])
def test_tokenizers_that_disagree_on_shared_rows_are_refused(tmp_path, tokens):
    base = folder(tmp_path / "base", model(), tokens={"a": 0, "b": 1, "c": 2})
    grown = {**model(), "embed_tokens.weight": torch.ones(6, 3)}
    one = folder(tmp_path / "one", grown, tokens=tokens, added=[{"id": 5, "content": "<new>"}])
    with pytest.raises(ValueError, match=r"differ in 1 of 3 ids: id 2 is 'c' and 'X'"):
        merge([one], base, method=TaskArithmetic(), vocab="union")
    same = folder(tmp_path / "same", model(), tokens=tokens)
    notes = prepare([same], base, method=TaskArithmetic()).notes
    assert any("id 2 is 'c' and 'X'; rows of embeddings are matched by place" in note for note in notes)


def test_tokenizers_may_differ_beyond_the_shared_rows(tmp_path):
    base = folder(tmp_path / "base", model(), tokens={"a": 0, "b": 1, "c": 2})
    grown = {**model(), "embed_tokens.weight": torch.ones(6, 3)}
    one = folder(tmp_path / "one", grown, tokens={"a": 0, "b": 1, "c": 2, "d": 5})
    merged = merge([one], base, method=TaskArithmetic(), vocab="union")
    assert merged["embed_tokens.weight"].shape == (6, 3)


def test_a_tied_head_is_the_embedding(tmp_path):
    head = {"lm_head.weight": torch.ones(5, 3)}
    base = folder(tmp_path / "base", model(**head))
    one = model()
    tied = folder(tmp_path / "tied", one, {"tie_word_embeddings": True})
    merged = merge([tied], base, method=TaskArithmetic())
    torch.testing.assert_close(merged["lm_head.weight"], one["embed_tokens.weight"])
    assert any("tied to 'embed_tokens.weight'" in n for n in prepare([tied], base, method=Average()).notes)
    loose = folder(tmp_path / "loose", one, {"tie_word_embeddings": False})
    with pytest.raises(ValueError, match=r"'lm_head.weight' of .* is missing"):
        merge([loose], base, method=TaskArithmetic())


def test_a_head_that_repeats_the_embedding_is_left_out(tmp_path):
    base = folder(tmp_path / "base", model(), {"architectures": ["GPT2LMHeadModel"]})
    one = model()
    twin = folder(tmp_path / "twin", {**one, "lm_head.weight": one["embed_tokens.weight"].clone()})
    assert "lm_head.weight" not in merge([twin], base, method=Average())
    apart = folder(tmp_path / "apart", {**one, "lm_head.weight": torch.ones(5, 3)})
    with pytest.raises(ValueError, match=r"'lm_head.weight' is not in"):
        merge([apart], base, method=Average())


def test_adapters_and_quantised_models_are_refused(tmp_path):
    base = model()
    adapter = {"base_model.model.q.lora_A.weight": torch.ones(2, 3)}
    with pytest.raises(ValueError, match=r"one: an adapter .*merge_and_unload"):
        merge({"one": adapter}, base, method=TaskArithmetic())
    (tmp_path / "ia3").mkdir()
    save_file({"layers.0.ia3_l": torch.ones(3)}, tmp_path / "ia3" / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"ia3: an adapter \(tensor 'layers.0.ia3_l'\)"):
        merge([tmp_path / "ia3"], base, method=TaskArithmetic())
    packed = {**base, "layers.0.weight": torch.ones(6, 1, dtype=torch.uint8)}
    with pytest.raises(ValueError, match=r"one: quantised weights \(tensor 'layers.0.weight'\)"):
        merge({"one": packed}, base, method=TaskArithmetic())
    stated = folder(tmp_path / "stated", base, {"quantization_config": {"bits": 4}})
    with pytest.raises(ValueError, match=r"quantization_config in config.json"):
        merge([stated], base, method=TaskArithmetic())
    with pytest.raises(ValueError, match=r"'phase' is torch.complex64"):
        merge({"one": {**base, "phase": torch.ones(2, dtype=torch.complex64)}}, base, method=Average())


def test_integers_are_copied_and_told_where_they_differ():
    base = model(**{"norm.num_batches_tracked": torch.tensor(3), "norm.running_mean": torch.zeros(3)})
    one = model(**{"norm.num_batches_tracked": torch.tensor(9), "norm.running_mean": torch.ones(3)})
    found = prepare({"one": one}, base, method=Average())
    assert carry_out(found)["norm.num_batches_tracked"] == 3
    assert torch.equal(carry_out(found)["norm.running_mean"], torch.ones(3))
    assert any("'norm.num_batches_tracked' of torch.int64 differs in one" in note for note in found.notes)
    assert any("running statistics" in note for note in found.notes)


def test_integers_that_one_lacks_are_told():
    base, one = model(ids=torch.arange(3)), model(more=torch.arange(2))
    found = prepare({"one": one}, base, method=TaskArithmetic())
    assert found.notes == (
        "one: tensor 'more' of whole numbers not in base: left out",
        "one: tensor 'ids' of whole numbers missing: copied from those who have it",
    )
    assert torch.equal(carry_out(found)["ids"], base["ids"])


def sparse(path, tensors):
    """A folder with tensors of zeros, but for the first byte of each; they take no room on the disk."""
    path.mkdir()
    header, end = {}, 0
    for name, (label, shape, size, _) in tensors.items():
        header[name] = {"dtype": label, "shape": shape, "data_offsets": [end, end := end + size]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
        for name, (*_, first) in tensors.items():
            file.seek(8 + len(text) + header[name]["data_offsets"][0])
            file.write(first)
    return path


def test_planning_holds_no_whole_tensor(tmp_path):
    rows = 1 << 30  # tensors of a terabyte
    vast = ("F32", [rows, 1 << 8], rows << 10)
    count = ("I64", [rows, 1 << 7], rows << 10)
    base = sparse(tmp_path / "base", {"embed_tokens.weight": (*vast, b"\0"), "ids": (*count, b"\0")})
    (base / "config.json").write_text(json.dumps({"tie_word_embeddings": True}))
    tensors = {"embed_tokens.weight": (*vast, b"\1"), "ids": (*count, b"\1")}
    head = {"lm_head.weight": (*vast, b"\2")}
    one = sparse(tmp_path / "one", tensors)
    found = prepare([one], base, method=TaskArithmetic(), reading="read")
    assert [note for note in found.notes if "'ids' of torch.int64 differs in" in note]
    two = sparse(tmp_path / "two", {**tensors, **head})
    with pytest.raises(ValueError, match=r"'lm_head.weight' is not in"):
        prepare([two], base, method=TaskArithmetic(), reading="read")


def test_mixed_dtypes_are_told():
    base, one = model(), {name: t.bfloat16() for name, t in model().items()}
    notes = prepare({"one": one}, base, method=Average()).notes
    assert notes == ("4 tensors (as 'embed_tokens.weight') of mixed dtypes (base: float32, one: bfloat16)",)
    mixed = {**base, "norm": torch.ones(3, dtype=torch.int32)}
    with pytest.raises(ValueError, match=r"'norm' of one is torch.int32, in base torch.float32"):
        merge({"one": mixed}, base, method=Average())


def test_equal_models_are_told_and_refused_where_nothing_would_come_of_it(tmp_path):
    base, one = model(), model()
    twin = {name: tensor.clone() for name, tensor in one.items()}
    same = {name: tensor.clone() for name, tensor in base.items()}
    given = {"one": one, "two": twin, "three": same, "four": model()}
    notes = prepare(given, base, method=Average()).notes
    assert sorted(notes) == [
        "models with equal values: one, two",
        "models with equal values: the base, three",
    ]
    paths = [folder(tmp_path / name, tensors) for name, tensors in {"b": base, "a": same}.items()]
    with pytest.raises(ValueError, match=r"nothing to merge: .*a hold what the base .*b holds"):
        merge(paths[1:], paths[0], method=TaskArithmetic())


def test_check_finds_all_that_is_not_finite_before_anything_is_written(tmp_path):
    one, two = model(), model()
    one["norm"][1] = two["norm"][0] = float("nan")
    two["layers.1.w"][0, 0] = float("inf")
    paths = [folder(tmp_path / name, tensors) for name, tensors in {"one": one, "two": two}.items()]
    with pytest.raises(NonFiniteDirection) as error:
        merge(paths, method=Average(), out=tmp_path / "out", check=True)
    assert error.value.names == ("two", "one")
    assert f"tensor 'norm' of {paths[0]} holds NaN" in str(error.value)
    assert f"tensor 'norm' of {paths[1]} holds NaN" in str(error.value)
    assert f"tensor 'layers.1.w' of {paths[1]} holds NaN" in str(error.value)
    assert not (tmp_path / "out").exists()


NARROW = [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2fnuz]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("sign", [1, -1])
def test_what_a_narrow_dtype_cannot_hold_is_refused(dtype, sign):
    highest = sign * torch.tensor([torch.finfo(dtype).max, 1.0], dtype=torch.float64)
    words = rf"'w' goes beyond what {dtype} holds"
    merged = merge([{"w": highest}], method=Average(), dtype=dtype)["w"]
    assert torch.equal(merged.double(), highest)
    base = {"w": torch.zeros(2, dtype=dtype)}
    with pytest.raises(NonFiniteDirection, match=words):
        merge([{"w": 1.1 * highest}], base, method=TaskArithmetic())
    beside = {"v": torch.ones(1)}
    kept = merge([beside], {**beside, "w": highest}, method=Average(), on_missing="skip", dtype=dtype)["w"]
    assert torch.equal(kept.double(), highest)
    with pytest.raises(NonFiniteDirection, match=words):
        merge([beside], {**beside, "w": 1.1 * highest}, method=Average(), on_missing="skip", dtype=dtype)


def test_what_is_copied_is_finite_too():
    base, one = {"w": torch.tensor([float("nan")]), "v": torch.ones(1)}, {"v": torch.ones(1)}
    found = prepare([one], base, method=Average(), on_missing="skip")
    for check in (False, True):
        with pytest.raises(NonFiniteDirection, match=r"tensor 'w' of base holds NaN or infinity"):
            carry_out(found, check=check)


def test_other_names_can_be_wanted():
    base, one, two = model(), model(), model()
    wanted = [
        Wanted("layers.0.w", {"one": "layers.0.w", "two": "layers.1.w"}, "layers.0.w"),
        Wanted("layers.1.w", {"two": "layers.0.w"}),
    ]
    found = carry_out(prepare({"one": one, "two": two}, base, method=Average(), wanted=wanted))
    assert list(found) == ["layers.0.w", "layers.1.w"]
    torch.testing.assert_close(found["layers.0.w"], (one["layers.0.w"] + two["layers.1.w"]) / 2)
    assert torch.equal(found["layers.1.w"], two["layers.0.w"])


def test_statistics_of_a_larger_vocabulary_are_cut_with_the_rows():
    class Asking(Average):
        statistic = "fisher"

    name, one, two = "embed_tokens.weight", model(), model()
    two[name] = torch.ones(7, 3)
    known = {"one": one, "two": {name: torch.arange(21.0).view(7, 3)}}
    found = prepare({"one": one, "two": two}, method=Asking(), statistics=known, vocab="union")
    first, second = next(t for t in found.tensors if t.name == name).blocks
    assert torch.equal(list(first.whole().statistics())[1], known["two"][name][:5])
    assert torch.equal(next(second.whole().statistics()), known["two"][name][5:])


@pytest.mark.parametrize("within", [None, "state_dict"])
def test_files_of_torch_are_read_where_allowed_and_named(tmp_path, within):
    one, path = model(), tmp_path / "one.pt"
    torch.save(one if within is None else {within: one, "epoch": 3}, path)
    with pytest.raises(ValueError, match=r"a pickle can run code"):
        merge([path], method=Average())
    merged = merge([path], method=Average(), pickles=True)
    assert all(torch.equal(merged[name], tensor) for name, tensor in one.items())


class Harmful:
    def __reduce__(self):
        return (print, ("run",))


def test_a_file_of_torch_runs_nothing(tmp_path, capsys):
    torch.save({"w": Harmful()}, tmp_path / "one.pt")
    with pytest.raises(ValueError, match=r"one.pt: holds more than tensors"):
        merge([tmp_path / "one.pt"], method=Average(), pickles=True)
    torch.save([torch.ones(2)], tmp_path / "two.pt")
    with pytest.raises(ValueError, match=r"two.pt: not a state_dict"):
        merge([tmp_path / "two.pt"], method=Average(), pickles=True)
    assert capsys.readouterr().out == ""
