"""The picture of a front holds its solutions, in a page that needs nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.core.front import Front
from equipoise.core.frontplot import figure, write_figure

POINTS = torch.tensor([[0.0, 1.0], [0.25, 0.25], [1.0, 0.0], [0.5, 0.75]], dtype=torch.float64)


def drawn(points: torch.Tensor, names: str = "abcdefgh", **more: Any):
    return figure(Front(tuple(names[: points.shape[1]]), points, **more))


def texts(picture) -> list[str]:
    return [text for trace in picture.data for text in trace.text or ()]


def test_a_plane_frames_the_non_dominated_and_fades_the_rest():
    _, faint, full = drawn(POINTS).data
    assert list(zip(faint.x, faint.y, strict=True)) == [(0.5, 0.75)]
    assert list(zip(full.x, full.y, strict=True)) == [(0.0, 1.0), (0.25, 0.25), (1.0, 0.0)]
    assert faint.marker.opacity < 1
    assert full.marker.line.width > 0


def test_the_edge_goes_along_the_non_dominated_alone():
    edge = drawn(POINTS.flip(0)).data[0]
    assert (list(edge.x), list(edge.y), edge.line.shape) == ([0.0, 0.25, 1.0], [1.0, 0.25, 0.0], "hv")


def test_hovering_tells_place_losses_and_weights():
    weights = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.25, 0.75]])
    found = texts(drawn(POINTS, weights=weights))
    assert "<b>place 1</b> (non-dominated)<br>a: 0.25, preference 0.5<br>b: 0.25, preference 0.5" in found
    assert "<b>place 3</b> (dominated)<br>a: 0.5, preference 0.25<br>b: 0.75, preference 0.75" in found


def test_the_colour_is_the_preference_for_the_first_loss_or_how_it_is_favoured():
    weights = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.25, 0.75]])
    assert list(drawn(POINTS, weights=weights).data[2].marker.color) == pytest.approx([0.9, 0.5, 0.2])
    assert list(drawn(POINTS).data[2].marker.color) == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(("m", "kind"), [(1, "scatter"), (2, "scatter"), (3, "scatter3d"), (5, "scatter")])
def test_every_solution_of_any_number_of_losses_is_drawn(m, kind):
    points = torch.rand(9, m, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    picture = drawn(points)
    assert {trace.type for trace in picture.data} == {kind}
    for place in range(9):
        assert any(f"<b>place {place}</b>" in text for text in texts(picture))


def test_parallel_axes_run_from_the_best_to_the_worst_of_each_loss():
    points = torch.tensor([[1.0, 0.0, 5.0, 7.0], [3.0, 10.0, 5.0, 6.0]], dtype=torch.float64)
    picture = drawn(points)
    assert [list(trace.y) for trace in picture.data[:2]] == [[0, 0, 0, 1], [1, 1, 0, 0]]
    assert list(picture.layout.xaxis.ticktext) == [
        "a<br>1 to 3",
        "b<br>0 to 10",
        "c<br>5 to 5",
        "d<br>6 to 7",
    ]


def test_names_are_shown_as_they_are():
    picture = figure(Front(("<i>a</i>", "b & c"), POINTS))
    assert picture.layout.xaxis.title.text == "&lt;i&gt;a&lt;/i&gt;"
    assert picture.layout.yaxis.title.text == "b &amp; c"
    assert "<i>" not in "".join(texts(picture))


def test_an_empty_front_is_no_picture():
    with pytest.raises(ValueError, match="nothing to draw"):
        drawn(torch.zeros(0, 2))


def test_the_page_asks_no_host_and_is_written_whole(tmp_path: Path):
    path = tmp_path / "front.html"
    Front(("</title><script>", "b"), POINTS).plot(path)
    page = path.read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert "Plotly.newPlot" in page
    assert len(page) > 1_000_000
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    assert "<title>front: &lt;/title&gt;&lt;script&gt;, b</title>" in page
    assert [found.name for found in tmp_path.iterdir()] == ["front.html"]


def test_another_kind_of_file_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"front\.png does not end in \.html"):
        write_figure(drawn(POINTS), tmp_path / "front.png")


def test_a_browser_draws_it_without_an_error(browser, tmp_path: Path):
    for m in (2, 3, 4):
        points = torch.rand(6, m, generator=torch.Generator().manual_seed(m), dtype=torch.float64)
        path = tmp_path / f"{m}.html"
        write_figure(drawn(points), path)
        page = browser.new_page()
        said: list[str] = []
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector(".main-svg")
        assert page.locator(".js-plotly-plot").count() == 1
        assert said == []
        page.close()
