"""Fixtures of the web page's tests: a real Chromium that visits the shared service."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.page.opening import PATIENCE_MS, open_page
from tests.service import ROOT, Service

_FRONTEND = ROOT / "frontend"


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The Chromium in the page's packages, which `make test` installs."""
    bin_folder = Path(os.environ.get("VIRTUAL_ENV", ROOT / ".venv")) / "bin"
    node = shutil.which("node", path=f"{bin_folder}:{os.environ['PATH']}")
    assert node is not None, "Node is missing: `make test` installs it."
    found = subprocess.run([node, _FRONTEND / "chromium.mjs"], check=True, capture_output=True, text=True)
    return Path(found.stdout.strip())


@pytest.fixture(scope="session")
def browser(chromium: Path) -> Iterator[Browser]:
    """A Chromium that all tests of a worker share."""
    expect.set_options(timeout=PATIENCE_MS)
    libraries: dict[str, str | float | bool] = {**os.environ, "LD_LIBRARY_PATH": str(chromium.parent / "lib")}
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"], env=libraries)
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
