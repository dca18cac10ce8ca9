"""Fixtures of the web page's tests: a real Chromium that visits the shared service."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.page.chromium import launch_chromium
from tests.page.opening import PATIENCE_MS, open_page
from tests.service import Service


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A Chromium that the tests of the page share. Its event loop must end before other tests start one."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        opened = launch_chromium(playwright)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    """A tab of its own, with the page of the shared service open. An error in the page's script fails the test."""
    with open_page(browser, service.url) as opened:
        yield opened


@pytest.fixture
def api(service: Service) -> Iterator[httpx.Client]:
    """A client of the shared service."""
    with service.client() as client:
        yield client
