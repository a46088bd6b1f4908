"""What every test shares: one thread, repeatable draws, real data where it lies, a browser."""

import os
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")
torch.set_num_threads(1)


def missing(what: str) -> None:
    """Skip the test, naming what is absent; under CI=true nothing may be absent, so fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}; CI=true allows no skip", pytrace=False)
    pytest.skip(what)


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return missing(f"the package {name.partition('.')[0]} is not installed")


def _folder(variable: str) -> Path:
    folder = Path(os.environ.get(variable, ""))
    if not os.environ.get(variable):
        missing(f"${variable} is not set")
    if not folder.is_dir():
        missing(f"${variable} names {folder}, which is not a folder")
    return folder.resolve()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets, `$EQUIPOISE_DATA`."""
    return _folder("EQUIPOISE_DATA")


@pytest.fixture(scope="session")
def vectors_folder() -> Path:
    """The folder of conformance vectors, `$EQUIPOISE_VECTORS`."""
    return _folder("EQUIPOISE_VECTORS")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium: `$EQUIPOISE_CHROMIUM`, else `chromium` on the PATH."""
    named = os.environ.get("EQUIPOISE_CHROMIUM")
    found = shutil.which(named or "chromium")
    if found is None:
        missing(f"no Chromium: {f'$EQUIPOISE_CHROMIUM names {named}' if named else 'none on the PATH'}")
    return str(found)


@pytest.fixture(scope="session")
def ray() -> Any:
    """The package Ray."""
    return _package("ray")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator["playwright.sync_api.Browser"]:  # noqa: F821
    """A headless Chromium under Playwright; `browser.new_page()` opens a page."""
    api = _package("playwright.sync_api")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
        )
        yield started
        started.close()


def opened_page(browser, path, selector):
    """A page of ours in a browser, with all that it said or asked for in `heard`, itself left out."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.heard = []
    page.on("console", lambda message: page.heard.append(message.text))
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.on("dialog", lambda dialog: (page.heard.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: page.heard.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector(selector)
    page.heard.remove(path.as_uri())
    return page
