"""Opening the web page in a browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Error, Page

PATIENCE_MS = 120_000
"""Time within which the page shows what a test expects. Generating a video is included, on a slow machine."""


@contextmanager
def open_page(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """Opens the page in a context of its own, with options of Playwright. An error in its script fails the test."""
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, "locale": "en-US"} | options)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    errors: list[Error] = []
    page.on("pageerror", lambda error: errors.append(error))  # Playwright marks handlers
    page.goto(url)
    try:
        yield page
        assert errors == []
    finally:
        context.close()
