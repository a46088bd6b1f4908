"""The report, as a reader meets it: in a headless Chromium, on a phone, in the dark, without a network."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.study.synthetic import ADAPTIVE, RULES, Synthetic

from equipoise.study.analysis import analyse
from equipoise.study.picture import _together, save_picture
from equipoise.study.report import summary, write_report
from equipoise.study.results import Run

HOSTILE = ("<img src=x onerror=alert(1)>", "</script ><script>alert(2)</script >")
REASON = "Diverged at step 12: the <trained> parameters are not finite"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    """A finished study of two objectives, a partial one of seven, one with names made to break out."""

    def folder(name: str) -> Path:
        return tmp_path_factory.mktemp(name)

    two = Synthetic(2, lifts={"UPGrad": 0.03}, noise=0.005).run(folder("two"), failing={"MGDA": REASON})
    seven = Synthetic(7, seeds=2, preferences=3, measures=4).run(folder("seven"), keep=0.9)
    rules = ("Mean", "MGDA", HOSTILE[1])
    hostile = Synthetic(rules=rules, seeds=2, objectives=HOSTILE, measures=2).run(
        folder("hostile"), failing={"MGDA": HOSTILE[0]}
    )
    hostile = replace(hostile, command=HOSTILE[0], environment={HOSTILE[0]: HOSTILE[1]}, problem=HOSTILE[0])
    return {"two": two, "seven": seven, "hostile": hostile}


@pytest.fixture(scope="module")
def written(runs) -> dict[str, Path]:
    return {name: write_report(run) for name, run in runs.items()}


@pytest.fixture(scope="module")
def visit(browser, written) -> Iterator:
    """Open a report, once for each set of options; what console or network say goes into `page.heard`."""
    opened = {}

    def go(name: str, **options):
        key = (name, repr(options))
        if key in opened:
            return opened[key]
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        page = opened[key] = context.new_page()
        page.heard = []
        page.on("console", lambda message: page.heard.append(message.text))
        page.on("pageerror", lambda error: page.heard.append(str(error)))
        page.on("dialog", lambda dialog: (page.heard.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: page.heard.append(request.url))
        page.goto(written[name].as_uri())
        page.wait_for_selector("html[data-ready]")
        page.heard.remove(written[name].as_uri())
        return page

    yield go
    for page in opened.values():
        page.context.close()


def column(page, table: int, place: int) -> list[str]:
    """The values by which a column sorts, from top to bottom."""
    rows = page.locator("table").nth(table).locator(f"tbody tr > :nth-child({place + 1})")
    return rows.evaluate_all("cells => cells.map(cell => cell.dataset.value)")


@pytest.mark.parametrize("name", ["two", "seven", "hostile"])
def test_no_error_no_request_and_nothing_breaks_out(visit, name):
    page = visit(name)
    for select in page.locator("select").all():
        values = select.locator("option").evaluate_all("options => options.map(option => option.value)")
        before = select.input_value()
        for value in (*values[-2:], before):
            select.select_option(value)
    assert page.heard == []
    assert page.locator("main img, main script").count() == 0


def test_the_page_asks_nobody_for_anything(written):
    """No address that a browser would load, and a policy that forbids what slipped in."""
    for path in written.values():
        text = path.read_text(encoding="utf-8")
        own = re.sub(r"<script>\n/\*\*\n\* plotly\.js.*?</script>", "", text, flags=re.DOTALL)
        assert len(own) < len(text) - 1_000_000
        assert not re.search(r"""(src|srcset|action)\s*=\s*["']?\s*(https?:)?//""", own)
        assert not re.search(r"""<link[^>]+href\s*=\s*["'](?!data:)|@import|url\(""", own)
        assert "default-src 'none'" in own


def test_the_verdict_stands_on_top(visit, runs):
    page = visit("two")
    verdict = analyse(runs["two"]).verdict
    assert page.locator("h1 strong").inner_text() == "Use UPGrad"
    assert page.locator("h1").get_attribute("data-kind") == verdict.kind == "winner"
    told = page.locator("h1").inner_text()
    assert "95% interval" in told
    assert "corrected for having compared 22 rules" in told


def test_the_table_sorts_by_a_click_and_by_the_keyboard(visit):
    page = visit("two")
    header = page.locator("table").first.locator("th").nth(1)
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    down = column(page, 0, 1)
    numbers = [float(v) for v in down if v]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) > 20
    assert down[len(numbers) :] == ["", ""]
    header.locator("button").press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    up = column(page, 0, 1)
    assert [float(v) for v in up if v] == sorted(numbers)
    assert up[-2:] == ["", ""]
    rules = page.locator("table").first.locator("th").first
    rules.locator("button").focus()
    page.keyboard.press("Space")
    assert rules.get_attribute("aria-sort") == "ascending"
    assert header.get_attribute("aria-sort") is None
    names = column(page, 0, 0)
    assert names[0] == ADAPTIVE
    assert set(RULES) < set(names)


@pytest.mark.parametrize("name", ["two", "seven"])
def test_the_front_shows_a_point_for_each_solution(visit, runs, name):
    page = visit(name)
    points = page.locator('[data-figure="front"] .scatterlayer path.point')
    assert points.count() == len(analyse(runs[name]).points)


def test_dominated_solutions_are_faint(visit, runs):
    page = visit("two")
    shown = page.locator('[data-figure="front"] .scatterlayer path.point').evaluate_all(
        "paths => paths.map(path => Number(getComputedStyle(path).opacity))"
    )
    assert sum(opacity == 1 for opacity in shown) == sum(p.front for p in analyse(runs["two"]).points)
    assert max(opacity for opacity in shown if opacity < 1) < 0.6


def test_hovering_names_rule_learning_rate_and_seed(visit, runs):
    page = visit("two")
    best = max((p for p in analyse(runs["two"]).points if p.front), key=lambda p: p.values[0])
    figure = page.locator('[data-figure="front"]')
    figure.scroll_into_view_if_needed()
    paths = figure.locator("path.point").evaluate_all(
        "paths => paths.map(path => path.getBoundingClientRect()).map(box => [box.x, box.y, box.width])"
    )
    x, y, size = max((p for p in paths if p[2] > 0), key=lambda box: box[0])
    page.mouse.move(x + size / 2 - 3, y + size / 2)
    page.mouse.move(x + size / 2, y + size / 2)
    figure.locator(".hovertext").wait_for()
    told = figure.locator(".hovertext").text_content()
    for words in (best.label, f"learning rate {best.learning_rate:g}", f"seed {best.seed}", "non-dominated"):
        assert words in told


def test_many_objectives_have_a_chooser_of_axes(visit):
    page = visit("seven")
    figure = page.locator('[data-figure="front"]')
    assert "task 1" in figure.locator(".xtitle").text_content()
    page.select_option("#axis-x", label="task 6")
    assert figure.locator(".xtitle").text_content().startswith("task 6: error (lower is better)")
    lefts = figure.locator(".xaxislayer-above text").evaluate_all("texts => texts.map(t => t.textContent)")
    numbers = [float(text) for text in lefts]
    assert numbers == sorted(numbers, reverse=True), "better is right, so an error falls from left to right"


def test_highlighting_recolours_the_front(visit):
    page = visit("two")
    script = "box => box.data.find(t => t.meta.label === 'CAGrad').marker.color"
    figure = page.locator('[data-figure="front"]')
    before = figure.evaluate(script)
    page.select_option("#highlight", label="CAGrad")
    assert figure.evaluate(script) != before


def test_a_rule_without_weights_says_so(visit):
    page = visit("two")
    place = page.locator("figure").filter(has=page.locator('[data-figure="weights"]'))
    assert place.locator(".empty").is_hidden()
    page.select_option("#rule", label="GradDrop")
    assert place.locator(".empty").is_visible()
    page.select_option("#rule", label="CAGrad")
    assert place.locator(".scatterlayer path.js-line").count() >= 2


@pytest.mark.parametrize("name", ["two", "seven", "hostile"])
def test_a_phone_scrolls_only_downwards(visit, name):
    page = visit(name, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    overflow = page.locator(".box").first.evaluate("box => box.scrollWidth > box.clientWidth")
    assert overflow, "the table scrolls in its own box"


def test_dark_and_light_differ_on_page_and_in_figures(visit):
    shades = {}
    for scheme in ("light", "dark"):
        page = visit("two", color_scheme=scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        text = page.locator('[data-figure="front"] .xtitle').evaluate("t => getComputedStyle(t).fill")
        shades[scheme] = (ground, text)
    assert shades["light"][0] == "rgb(255, 255, 255)"
    assert shades["dark"][0] != shades["light"][0]
    assert shades["dark"][1] != shades["light"][1]


def test_it_prints_on_white_without_controls(visit):
    page = visit("two", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".controls").first.is_hidden()
    page.emulate_media(media="screen")
    assert page.heard == []


def test_failures_sources_environment_and_command_are_there(visit):
    page = visit("two")
    assert page.get_by_role("cell", name=REASON).count() == 1, "what failed alike stands in one line"
    assert page.get_by_role("row").filter(has_text=REASON).get_by_role("cell").nth(1).inner_text() == "5"
    words = page.locator("main").inner_text()
    assert "equipoise run digits-pairs --rules all --seeds 5" in words
    assert "2.13.0" in words
    assert "reference point: task 1 " in words
    assert "Sources of the rules" in words


def test_a_partial_run_says_so(visit, runs):
    run = runs["seven"]
    notice = visit("seven").get_by_role("status").inner_text()
    assert f"{len(run.trials):,} of {run.planned:,} trials have ended" in notice
    assert summary(run)["trials"]["planned"] == run.planned


def test_the_summary_is_json_with_verdict_and_table(runs):
    found = json.loads(json.dumps(summary(runs["two"]), allow_nan=False))
    assert found["verdict"]["rule"] == "UPGrad"
    assert len(found["verdict"]["comparisons"]) == 22
    assert {row["label"] for row in found["table"]} > set(RULES)


@pytest.mark.parametrize(
    "keep",
    [
        lambda trial: False,
        lambda trial: trial.kind == "single",
        lambda trial: trial.rule == "Mean",
        lambda trial: trial.rule != "Mean",
        lambda trial: trial.kind != "single",
        lambda trial: trial.seed == 0,
    ],
    ids=["nothing", "single tasks", "Mean", "all but Mean", "no single tasks", "one seed"],
)
def test_whatever_is_there_is_reported(tmp_path, keep):
    run = Synthetic(2, rules=RULES[:4], seeds=2).run(tmp_path)
    run = replace(run, trials=tuple(t for t in run.trials if keep(t.trial)))
    text = write_report(run).read_text(encoding="utf-8")
    assert 'id="verdict"' in text
    assert "This run is not finished." in text
    json.dumps(summary(run), allow_nan=False)


def test_one_objective_is_reported(tmp_path):
    run = Synthetic(1, rules=RULES[:3], seeds=2).run(tmp_path)
    assert 'data-figure="front"' in write_report(run).read_text(encoding="utf-8")


def test_the_command_line_reports_a_real_run_folder(store, trainer, capsys):
    from equipoise.cli.report import report
    from equipoise.study.results import Trial

    for rule, seed in (("Mean", 0), ("PCGrad", 0), ("Mean", 1)):
        store.write(trainer.run(Trial("rule", rule, 0.05, seed)))
    report(store.folder)
    out, err = capsys.readouterr()
    assert Path(out.strip()) == store.folder / "report.html"
    assert (store.folder / "report.html").stat().st_size > 1_000_000
    assert "3 of" in err
    report(store.folder, as_json=True)
    assert json.loads(capsys.readouterr().out)["table"][0]["rule"] == "Mean"


def test_a_method_far_from_all_others_does_not_stretch_the_picture():
    assert _together([0.90, 0.91, 0.92, 0.93, 0.2]) == [0.90, 0.91, 0.92, 0.93]
    assert _together([0.2, 0.9]) == [0.2, 0.9]


def test_the_picture_is_one_svg_that_names_the_leader_and_mean(runs, tmp_path):
    for name, run in runs.items():
        text = save_picture(run, tmp_path / f"{name}.svg").read_text(encoding="utf-8")
        assert text.startswith("<svg ")
        assert ">Mean</text>" in text
        assert "<img" not in text
    assert ">UPGrad</text>" in (tmp_path / "two.svg").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"front\.png does not end in \.svg"):
        save_picture(runs["two"], tmp_path / "front.png")
