"""The built documentation, read in a headless Chromium; `make test-docs` builds it first."""

import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(__file__).parent.parent.parent / "site"
PAGES = (
    *("index", "start", "which-rule", "gallery", "how-it-works", "training", "migrating", "troubleshooting"),
    *("errors", "evidence", "papers", "benchmarks"),
    *("methods/aggregation/upgrad", "methods/federated/fedavg", "methods/merging/ties"),
)


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing of it."""

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def address():
    """Where the built pages are served, on this machine alone."""
    assert (SITE / "index.html").is_file(), "no site; `make docs` builds it"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def opened(browser, address):
    """opened(page, width): a page of the site; at the end nothing may have gone wrong in it."""
    faults, pages = [], []

    def open_(name, width=1280):
        page = browser.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        page.on("console", lambda said: said.type == "error" and faults.append(f"{name}: {said.text}"))
        page.on("pageerror", lambda error: faults.append(f"{name}: {error}"))
        page.on("requestfailed", lambda asked: faults.append(f"{name}: {asked.url} failed"))
        page.on(
            "request",
            lambda asked: (
                asked.url.startswith((address, "data:", "blob:"))
                or faults.append(f"{name} asks for {asked.url}")
            ),
        )
        page.goto(address + name, wait_until="networkidle")
        return page

    yield open_
    for page in pages:
        page.close()
    assert faults == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_an_error_or_a_request_to_anybody(opened, name):
    page = opened(f"{name}.html")
    assert page.locator("h1").count() == 1
    broken = page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)")
    assert broken == []


@pytest.mark.parametrize(
    "name", ["which-rule.html", "methods/aggregation/upgrad.html", "gallery.html", "index.html"]
)
def test_a_page_fits_a_phone(opened, name):
    page = opened(name, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("h1").is_visible()


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("UPGrad", "methods/aggregation/upgrad.html"),
        ("SCAFFOLD", "methods/federated/scaffold.html"),
        ("nothing beats the mean", "troubleshooting.html"),
    ],
)
def test_the_search_finds_it(opened, words, page):
    shown = opened("index.html")
    shown.locator("input.md-search__input").click()
    shown.keyboard.type(words)
    shown.locator("a.md-search-result__link").first.wait_for(state="attached")
    shown.wait_for_timeout(1000)  # results follow the typing
    links = shown.locator("a.md-search-result__link").evaluate_all("all => all.map(a => a.pathname)")
    assert any(link.endswith(page) for link in links[:8]), links[:8]


class Links(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self):
        super().__init__()
        self.links, self.anchors = [], set()

    def handle_starttag(self, tag, attrs):
        held = dict(attrs)
        self.anchors.update(filter(None, (held.get("id"), held.get("name"))))
        self.links += [held[key] for key in ("href", "src") if held.get(key)]


def test_every_link_within_the_site_leads_somewhere():
    found = {}
    for path in SITE.rglob("*.html"):
        found[path.resolve()] = parser = Links()
        parser.feed(path.read_text(encoding="utf-8"))
    dead = []
    for path, parser in found.items():
        for link in parser.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            lost = parts.fragment and target in found and unquote(parts.fragment) not in found[target].anchors
            if not target.is_file() or (lost and not parts.fragment.startswith("__")):
                dead.append(f"{path.relative_to(SITE)}: {link}")
    assert dead == []
