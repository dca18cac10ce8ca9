"""Writes the OpenAPI document, from which the page's client is generated: `make client`."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parent.parent))

from serve_app.api.application import make_api
from serve_app.settings import Settings


def render_document() -> str:
    """Returns the OpenAPI document of a service that needs keys, as text."""
    parts = SimpleNamespace(store=SimpleNamespace(keys=None), settings=Settings(), needs_keys=True, links=None)
    return json.dumps(make_api(cast(Any, parts)).openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("openapi.json").write_text(render_document(), "utf-8")
