"""The page and the picture of a ranking as a reader meets them, in a headless Chromium, without a network."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from tests.conftest import opened_page

from equipoise.transferability import Sample, rank

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def found():
    y = np.arange(60) % 3
    draw = np.random.default_rng(0)
    pool = {
        name: Sample(draw.standard_normal((60, 4)) + separation * np.eye(3, 4)[y], y)
        for name, separation in (("far", 4.0), ("near", 2.0), (HOSTILE, 0.5), ("noise", 0.0))
    }
    truth = {"far": 0.9, "near": 0.8, HOSTILE: 0.6, "noise": 0.3}
    return rank(pool, truth=truth, static={HOSTILE: {"far": 1, "near": 3, "noise": 2}}, bootstrap=4)


@pytest.fixture(scope="module")
def opened(found, browser, tmp_path_factory):
    path = tmp_path_factory.mktemp("ranking") / "report.html"
    found.write(path)
    page = opened_page(browser, path, "#seconds .plotly")
    yield page
    page.close()


def test_no_error_no_request_and_nothing_breaks_out(opened):
    assert opened.heard == []
    assert opened.locator("img").count() == 0


def test_every_figure_is_drawn(opened, found):
    for name in ("places", "truth", "orders", "agreement", "seconds"):
        box = opened.locator(f"#{name} .main-svg").first.bounding_box()
        assert box["width"] > 600, name
        assert box["height"] > 100, name
    points = opened.locator("#places .scatterlayer .trace").last.locator("path.point")
    assert points.count() == len(found.order())
    assert opened.locator("#places .errorbar").count() == len(found.order())


def test_the_page_says_what_the_text_says(opened, found):
    shown = " ".join(opened.locator("main").inner_text().split())
    head, _, rest = found.sentence().partition(": ")
    assert opened.locator("h1 strong").inner_text() == head == "Start from far"
    assert rest in shown
    assert HOSTILE in shown
    rows = opened.locator("table").first.locator("tbody tr")
    assert rows.count() == len(found.names)
    assert rows.first.inner_text().split("\t")[1].strip() == "far"


def test_nothing_is_wider_than_a_phone(opened):
    opened.set_viewport_size({"width": 390, "height": 800})
    opened.wait_for_timeout(300)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def test_long_names_leave_room_for_the_figures_and_are_whole_on_hovering(browser, tmp_path):
    names = [f"a-model-with-a-name-as-long-as-a-path/of-a-checkpoint: step-{i}00" for i in range(3)]
    y = np.arange(40) % 2
    draw = np.random.default_rng(0)
    pool = {n: Sample(draw.standard_normal((40, 3)) + i * y[:, None], y) for i, n in enumerate(names)}
    found = rank(pool, scores="logme,hscore:shrinkage=true", bootstrap=2)
    found.write(tmp_path / "report.html")
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_selector("#seconds .plotly")
    for name in ("places", "orders", "agreement", "seconds"):
        box = page.locator(f"#{name} .nsewdrag").first.bounding_box()
        assert box["width"] > 110, name
    assert page.locator("h1 strong").inner_text() == f"Start from {found.order()[0]}"
    ticks = page.locator("#places .ytick text")
    assert ticks.first.text_content() == "a-model-wi…tep-200"
    page.locator("#places .scatterlayer .trace").last.locator("path.point").first.hover(force=True)
    page.wait_for_selector("#places .hovertext")
    assert names[2] in page.locator("#places .hovertext").first.text_content()
    page.close()


def test_the_picture_shows_every_model_in_order(found):
    drawn = ElementTree.fromstring(found.picture())
    words = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert words[0] == "Start from far"
    assert [word for word in words if word in found.names] == found.order()


def test_pages_are_the_same_every_time_and_pools_without_truth_or_labels_have_one(found, tmp_path):
    assert found.page() == found.page()
    x = np.random.default_rng(1).standard_normal((20, 3))
    bare = rank({"one": Sample(x), "two": Sample(2 * x)}, scores="energy", bootstrap=3)
    assert "two" in bare.page()
    assert bare.sentence().endswith("there is no plain baseline beside it.")
    with pytest.raises(ValueError, match=r"written as \.html, \.svg or \.json"):
        bare.write(tmp_path / "ranking.txt")
