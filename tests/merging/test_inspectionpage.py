"""The page of an inspection as a reader meets it, in a headless Chromium, without a network."""

import pytest
import torch
from tests.conftest import opened_page

from equipoise.merging import inspect

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def found():
    draw = torch.Generator().manual_seed(0)

    def one(scale):
        return {
            f"blocks.{layer}.{part}": scale * torch.randn(6, 5, generator=draw)
            for layer in range(3)
            for part in ("attention", HOSTILE)
        }

    base = one(1.0)
    models = {}
    for name in ("first", "second", HOSTILE):
        moved = one(0.2)
        models[name] = {key: base[key] + moved[key] for key in base}
    goal = {key: tensor + 0.1 for key, tensor in base.items()}

    def losses(state):
        gap = sum(float((state[key] - goal[key]).square().sum()) for key in state)
        return {"first": gap, "second": 2 * gap, HOSTILE: gap**2}

    return inspect(models, base, evaluate=losses, points=5)


@pytest.fixture(scope="module")
def opened(found, browser, tmp_path_factory):
    path = tmp_path_factory.mktemp("inspection") / "inspection.html"
    found.write(path)
    page = opened_page(browser, path, "#ranks .plotly")
    yield page
    page.close()


def test_no_error_no_request_and_nothing_breaks_out(opened):
    assert opened.heard == []
    assert opened.locator("img").count() == 0


def test_every_figure_is_drawn(opened):
    for name in ("segments", "cosines", "signs", "distances", "ranks"):
        box = opened.locator(f"#{name} .main-svg").first.bounding_box()
        assert box["width"] > 600, name
        assert box["height"] > 100, name
    assert opened.locator("#cosines .hm image, #cosines .heatmaplayer image").count() == 1
    assert opened.locator("#segments .legendtext").count() == 6 + 2


def test_nothing_is_wider_than_a_phone(opened):
    opened.set_viewport_size({"width": 390, "height": 800})
    opened.wait_for_timeout(300)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_says_what_the_text_says(opened, found):
    shown = opened.locator("main").inner_text()
    for words in (*found.reading().warnings, *found.reading().advice):
        assert words in shown
    assert str(found).splitlines()[0] in shown


def test_the_page_is_the_same_every_time(found):
    assert found.page() == found.page()


def test_a_file_is_written_whole_and_by_its_ending(found, tmp_path):
    found.write(tmp_path / "found.json")
    assert (tmp_path / "found.json").read_text(encoding="utf-8") == found.to_json() + "\n"
    with pytest.raises(ValueError, match=r"found\.txt"):
        found.write(tmp_path / "found.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_many_tensors_are_shown_by_layer_and_one_model_without_pairs():
    base = {f"blocks.{layer}.{part}": torch.ones(2) for layer in range(20) for part in "abcd"}
    one = {key: tensor + 1 for key, tensor in base.items()}
    many = inspect({"one": one, "two": one}, base).page()
    assert "Cosine of task vectors by layer" in many
    assert "Cosine of task vectors" not in inspect({"one": one}, base).page()
