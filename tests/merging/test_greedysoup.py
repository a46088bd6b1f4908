"""Greedy soup: recipe 1 of the paper, and what it promises."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from equipoise.merging import Average, greedy_soup, merge


def models(*values):
    return {name: {"w": torch.tensor([value, 1.0])} for name, value in zip("abcdef", values, strict=False)}


def closeness(target):
    return lambda model: -abs(float(model["w"][0]) - target)


def test_models_are_tried_by_score_and_kept_where_it_does_not_fall():
    """By hand: c is 0.5 from the target, c and a 0.125, with b 1/6 and with d 17/12, so a alone is added."""
    soup = greedy_soup(models(1.75, 0.25, 0.5, 5.0), closeness(1.0))
    assert soup.alone == {"a": -0.75, "b": -0.75, "c": -0.5, "d": -4.0}
    assert list(soup.tried) == ["c", "a", "b", "d"]
    tried = torch.tensor(list(soup.tried.values()))
    torch.testing.assert_close(tried, -torch.tensor([1 / 2, 1 / 8, 1 / 6, 17 / 12]))
    assert soup.chosen == ("c", "a")
    assert soup.score == -0.125
    assert torch.equal(soup.model["w"], torch.tensor([1.125, 1.0]))


def test_the_soup_is_no_worse_than_the_best_model():
    """The paper: the greedy soup can be no worse than the best individual model on the held-out set."""
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        given = {name: {"w": torch.randn(4, generator=draw)} for name in "abcdefgh"}
        target = torch.randn(4, generator=draw)
        soup = greedy_soup(given, lambda model, target=target: -float((model["w"] - target).norm()))
        assert soup.score >= max(soup.alone.values())
        assert soup.alone[soup.chosen[0]] == max(soup.alone.values())


def test_a_model_that_leaves_the_score_as_it_is_is_added():
    soup = greedy_soup(models(1.0, 2.0, 3.0), lambda model: 0.5)
    assert soup.chosen == ("a", "b", "c")


def test_a_soup_of_files_is_written_as_it_was_scored(tmp_path):
    draw = torch.Generator().manual_seed(0)
    given = {name: {"w": torch.randn(8, generator=draw).bfloat16()} for name in "abc"}
    paths = {name: tmp_path / f"{name}.safetensors" for name in given}
    for name, path in paths.items():
        save_file(given[name], path)
    seen = []

    def evaluate(model):
        seen.append(model["w"])
        return 1.0

    soup = greedy_soup(paths, evaluate, out=tmp_path / "soup", threads=1)
    written = load_file(tmp_path / "soup" / "model.safetensors")["w"]
    assert soup.model == {}
    assert written.dtype == torch.bfloat16
    assert torch.equal(written, seen[-1])
    assert torch.equal(written, merge(given, method=Average())["w"])


def test_one_model_is_its_own_soup():
    soup = greedy_soup(models(2.0), closeness(1.0))
    assert (soup.chosen, soup.score) == (("a",), -1.0)


def test_a_score_that_is_no_number_is_told():
    with pytest.raises(ValueError, match=r"the score of b is NaN"):
        greedy_soup(models(1.0, 2.0), lambda model: float("nan") if model["w"][0] == 2 else 1.0)


def test_a_folder_in_use_is_refused_before_the_first_score(tmp_path):
    (tmp_path / "here").write_text("something")
    with pytest.raises(FileExistsError, match=r"exists already"):
        greedy_soup(models(1.0), lambda model: pytest.fail("scored"), out=tmp_path)


def test_a_model_equal_to_the_base_may_be_in_the_soup(tmp_path):
    given = models(1.0, 3.0)
    paths = {name: tmp_path / f"{name}.safetensors" for name in given}
    for name, path in paths.items():
        save_file(given[name], path)
    options = {"base": paths["a"], "out": tmp_path / "soup", "threads": 1, "vocab": "union"}
    soup = greedy_soup(paths, closeness(1.5), **options)
    assert soup.alone == {"a": -0.5, "b": -1.5}
    assert soup.chosen == ("a", "b")
    assert load_file(tmp_path / "soup" / "model.safetensors")["w"][0] == 2.0
    with pytest.raises(ValueError, match="nothing to merge"):
        merge({"a": paths["a"]}, paths["a"], method=Average())
