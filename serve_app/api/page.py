"""The web page, which `make page` builds from frontend/ into serve_app/page."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from serve_app.api.http.proxies import prefixed

FOLDER = Path(__file__).parent.parent / "page"
"""Folder of the built page."""
_UNCHANGING = "public, max-age=31536000, immutable"
"""Cache header of files whose names contain a hash of their content."""
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def add_page(app: FastAPI, folder: Path = FOLDER) -> None:
    """Adds the routes of the page. Without a built page, `/` leads to the documentation of the API."""
    index = folder / "index.html"
    assets = {path.name: path for path in folder.glob("assets/*")}
    policy = _make_policy(index.read_text("utf-8")) if index.is_file() else None

    @app.get("/", include_in_schema=False)
    def read_page() -> Response:
        if policy is None:
            return RedirectResponse(prefixed("/docs"))
        headers = {"cache-control": "no-cache", "content-security-policy": policy}
        return FileResponse(index, headers=headers)

    @app.get("/assets/{name}", include_in_schema=False)
    def read_asset(name: str) -> Response:
        if name not in assets:
            raise HTTPException(404)
        return FileResponse(assets[name], headers={"cache-control": _UNCHANGING})


def _make_policy(page: str) -> str:
    """Returns a content security policy that runs the page's own scripts and no others, and loads nothing else."""
    hashes = " ".join(
        f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in _INLINE_SCRIPT.findall(page)
    )
    return (
        f"default-src 'self'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    )
