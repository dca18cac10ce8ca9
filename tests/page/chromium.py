"""The Chromium in the packages of the web page, which `make test` installs."""

import os
import shutil
import subprocess
from pathlib import Path

from playwright.sync_api import Browser, Playwright

from tests.service import ROOT


def launch_chromium(playwright: Playwright) -> Browser:
    """Starts the Chromium, with the libraries that lie beside it."""
    bin_folder = Path(os.environ.get("VIRTUAL_ENV", ROOT / ".venv")) / "bin"
    node = shutil.which("node", path=f"{bin_folder}:{os.environ['PATH']}")
    assert node is not None, "Node is missing: `make test` installs it."
    command = [node, str(ROOT / "frontend" / "chromium.mjs")]
    path = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    variables: dict[str, str | float | bool] = {**os.environ, "LD_LIBRARY_PATH": str(path.parent / "lib")}
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], env=variables)
