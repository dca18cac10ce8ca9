"""The Chromium of the page's packages."""

import shutil
import subprocess
import sys
from pathlib import Path

_FRONTEND = Path(__file__).parents[2] / "frontend"


def find_chromium() -> str:
    """Returns the path of a Chromium: an installed one, or the one in the page's packages."""
    if installed := shutil.which("chromium"):
        return installed
    node = shutil.which("node") or str(Path(sys.executable).parent / "node")
    found = subprocess.run([node, _FRONTEND / "chromium.mjs"], check=True, capture_output=True, text=True)
    return found.stdout.strip()
