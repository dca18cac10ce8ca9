"""The web page's files, and the client that is generated for it."""

import re
import subprocess
import sys
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serve_app.api.page import add_page
from tests.service import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A built page."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<script>theme()</script><div id=root></div>")
    (tmp_path / "assets" / "index-abc.js").write_text("run()")
    (tmp_path / "secret").write_text("of the server")
    return tmp_path


def _client(folder: Path) -> TestClient:
    app = FastAPI()
    add_page(app, folder)
    return TestClient(app)


def test_the_page_is_checked_at_each_visit_and_its_assets_never(folder: Path) -> None:
    client = _client(folder)
    page, asset = client.get("/"), client.get("/assets/index-abc.js")
    assert "id=root" in page.text
    assert page.headers["cache-control"] == "no-cache"
    assert asset.text == "run()"
    assert "immutable" in asset.headers["cache-control"]


def test_the_policy_allows_the_pages_own_inline_script_only(folder: Path) -> None:
    policy = _client(folder).get("/").headers["content-security-policy"]
    digest = b64encode(sha256(b"theme()").digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]


@pytest.mark.parametrize("name", ["missing.js", "..%2fsecret", "..%2findex.html", "%2e%2e%2fsecret", "%00", "a" * 300])
def test_files_outside_of_the_assets_are_not_served(name: str, folder: Path) -> None:
    assert _client(folder).get(f"/assets/{name}").status_code == 404


def test_without_a_built_page_the_root_leads_to_the_documentation(tmp_path: Path) -> None:
    answer = _client(tmp_path).get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


def test_the_client_is_generated_from_the_present_api(tmp_path: Path) -> None:
    committed = ROOT / "frontend" / "openapi.json"
    code = "import runpy, sys; sys.stdout.write(runpy.run_path(sys.argv[1])['render_document']())"
    command = [sys.executable, "-c", code, str(ROOT / "frontend" / "write_document.py")]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert rendered == committed.read_text("utf-8"), "Stale: run `make client`."


def test_all_texts_are_in_the_files_of_the_languages() -> None:
    """No component contains a text: each word that the page shows between tags comes from text/."""
    text = re.compile(r">\s*([A-Z][a-z]+ [a-z][A-Za-z ]*)\s*<")
    found = [
        (str(path.relative_to(ROOT)), match.group(1))
        for path in (ROOT / "frontend" / "src").rglob("*.tsx")
        for match in text.finditer(path.read_text("utf-8"))
    ]
    assert found == []
