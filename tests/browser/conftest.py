"""What the browser tests share: Debian's Chromium, the built book on localhost, and an ear for complaints.

Does: serves `_build/html` with the handler of `tools/serve.py`; opens pages in fresh contexts; fails a test whose page
asked anything but localhost for a file, or wrote an error into the console.
Does not: build the book (`make test-browser` does); use a browser that Playwright would download.
"""

import threading
from collections.abc import Callable, Iterator

import pytest
from chromium import MATH_IS_SET, launch
from ear import Ear
from playwright.sync_api import Browser, Page, Playwright, sync_playwright
from serve import open_server


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    try:
        browser = launch(playwright)
    except FileNotFoundError as error:
        pytest.fail(str(error))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[object], str]]:
    """A function that serves a folder on a free port of localhost and returns its address."""
    servers = []

    def start(folder: object) -> str:
        server = open_server(str(folder), 8700)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def site(serve, built_book) -> str:
    """The address of the built book."""
    return serve(built_book)


@pytest.fixture
def open_page(chromium: Browser, site: str) -> Iterator[Callable[..., Page]]:
    """A function that opens a page of the book in a context of its own, formulas set; arguments go to the context.

    After the test each page must have kept to this machine and have had nothing to complain of.
    """
    ears, contexts = [], []

    def open_(path: str, listen: bool = True, **options) -> Page:
        context = chromium.new_context(**options)
        contexts.append(context)
        if listen:
            ears.append(Ear(context))
        page = context.new_page()
        page.goto(path if "://" in path else f"{site}/{path}")
        if options.get("java_script_enabled", True):
            page.wait_for_function(MATH_IS_SET)
        return page

    yield open_
    for context in contexts:
        context.close()
    for ear in ears:
        assert ear.requests, "the browser asked for nothing: the ear is deaf"
        assert ear.remote_requests() == []
        assert ear.complaints == []
