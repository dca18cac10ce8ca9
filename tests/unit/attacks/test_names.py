"""Names that are made to reach other files, to be run, or to be read as another part of a message."""

import pickle
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.http_api import open_api, serving_api
from tests.keys import ALICE, open_keyed_api
from tests.loras import write_lora
from tests.pictures import png
from tests.rejections import check_rejection

_SUBMIT, _UPLOAD_LORA = "/api/v1/generation/submit", "/api/v1/lora/upload"
_TRAVERSALS = [
    "../../../escaped",
    "/tmp/escaped",
    "..\\..\\escaped",
    "C:\\escaped",
    "\\\\server\\share\\escaped",
    "escaped\0.safetensors",
    "%2e%2e%2fescaped",
    "%252e%252e%252fescaped",
    "..%c0%afescaped",
    "．．／escaped",
    "..∕escaped",
    "~/escaped",
    "$HOME/escaped",
    "escaped/",
    "./escaped",
    "file:///tmp/escaped",
    "con",
    "escaped:stream",
    "escaped\r\nX-Evil: 1",
    'escaped"; filename="other',
    "-rf",
    "| touch escaped",
    "`touch escaped`",
    "\u202egnp.escaped",
    "a" * 5000,
]


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A LoRA that the service accepts."""
    return write_lora(tmp_path_factory.mktemp("loras") / "a.safetensors").read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("names")


@pytest.fixture(scope="module")
def api(folder: Path) -> Iterator[TestClient]:
    with open_api(folder) as client:
        yield client


@pytest.fixture(scope="module")
def files_around(tmp_path_factory: pytest.TempPathFactory, lora: bytes) -> Path:
    """A folder with files beside the data folder, and in it beside the folders of inputs and LoRAs."""
    found = tmp_path_factory.mktemp("around")
    for place in (found, found / "data"):
        place.mkdir(exist_ok=True)
        (place / "escaped").write_bytes(png())
        (place / "escaped.safetensors").write_bytes(lora)
    return found


@pytest.fixture(scope="module")
def untouched(files_around: Path) -> Iterator[TestClient]:
    """An API to which nothing is uploaded."""
    with open_api(files_around) as client:
        yield client


def _files(folder: Path) -> set[str]:
    """Returns the files below a folder, without the database."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("data/jobs.db")}


@pytest.mark.parametrize("name", _TRAVERSALS)
def test_the_file_name_of_an_upload_names_nothing(name: str, api: TestClient, folder: Path) -> None:
    key = api.post("/api/v1/uploads", files={"file": ("a.png", png())}).json()["id"]
    before = _files(folder)
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = api.post("/api/v1/uploads", content=head + png() + b"\r\n--b--\r\n", headers=headers)
    if answer.is_success:
        assert answer.json()["id"] == key
    assert _files(folder) == before
    assert name not in answer.text
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize("name", _TRAVERSALS)
@pytest.mark.parametrize("field", ["name", "file name"])
def test_a_lora_is_stored_in_its_folder_or_not_at_all(
    field: str, name: str, lora: bytes, api: TestClient, folder: Path
) -> None:
    before = _files(folder)
    file_name, fields = (f"{name}.safetensors", {}) if field == "file name" else ("a.safetensors", {"name": name})
    answer = api.post(_UPLOAD_LORA, data=fields, files={"file": (file_name, lora)})
    assert answer.status_code in (200, 400, 409), answer.text
    stored = _files(folder) - before
    assert all(
        re.fullmatch(r"data/loras/[\w -][\w. -]*\.(safetensors|lock)|data/loras/\.lock", path) for path in stored
    )
    assert bool([path for path in stored if path.endswith(".safetensors")]) == answer.is_success


@pytest.mark.parametrize("name", _TRAVERSALS)
def test_a_name_in_a_request_opens_no_file(name: str, files_around: Path, untouched: TestClient) -> None:
    fields: list[dict[str, Any]] = [
        {"image_path": name},
        {"end_image_path": name},
        {"video_path": name},
        {"image": {"file_id": name}},
        {"lora_path": name},
        {"loras": [{"name": name}]},
        {"lora": {"path": name}},
        {"model_type": name},
        {"preset": name},
    ]
    for changed in fields:
        answer = untouched.post(_SUBMIT, json={"prompt": "a cat"} | changed)
        assert answer.status_code in (400, 404), (changed, answer.text)
        assert str(files_around) not in answer.text
    for path in ("/api/v1/models/download", "/api/v1/models/verify"):
        assert untouched.post(path, json={"model_type": name}).status_code in (400, 404, 405)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_api(tmp_path_factory.mktemp("served")) as url:
        yield url


@pytest.mark.parametrize(
    "path",
    [
        "/static-offline-docs/../../../../etc/passwd",
        "/static-offline-docs/..%2f..%2f..%2f..%2fetc/passwd",
        "/static-offline-docs/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static-offline-docs/%252e%252e%252fetc%252fpasswd",
        "/static-offline-docs/..%5c..%5cetc%5cpasswd",
        "/static-offline-docs//etc/passwd",
        "/static-offline-docs/%00",
        "/static-offline-docs/.",
        "/static-offline-docs/",
        "/api/v1/outputs/%2e%2e%2fjobs.db/video",
        "/api/v1/outputs/..%5cjobs.db/video",
        "/api/v1/outputs/..;/jobs.db",
        "//etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/.git/config",
        "/.env",
    ],
)
def test_a_path_leads_to_no_file_outside(path: str, served: str) -> None:
    """The request is sent as it is, because clients resolve `..` themselves."""
    with socket.create_connection(("127.0.0.1", int(served.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert answer.startswith(("HTTP/1.1 400", "HTTP/1.1 404")), answer
    assert "root:" not in answer
    assert "SQLite format" not in answer


class _Runs:
    """An object whose pickle creates a file when it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("suffix", ["pt", "bin", "ckpt", "pth", "pkl", "npy", "safetensors", "safetensors.pt"])
def test_a_pickle_in_place_of_a_lora_is_not_run(suffix: str, api: TestClient, folder: Path, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    content = pickle.dumps(_Runs(touched))
    assert pickle.loads(content) is None
    assert touched.exists(), "the pickle works"
    touched.unlink()
    answer = api.post(_UPLOAD_LORA, files={"file": (f"evil.{suffix}", content)})
    assert check_rejection(answer, 400, "lora_unreadable")["param"] == "file"
    (folder / "data/loras").mkdir(exist_ok=True)
    (folder / f"data/loras/evil.{suffix}").write_bytes(content)
    assert "evil" not in [found["name"] for found in api.get("/api/v1/lora/list").json()["loras"]]
    assert api.post(_SUBMIT, json={"prompt": "a cat", "lora_path": "evil"}).status_code == 400
    assert not touched.exists()


def test_a_prompt_changes_no_header_of_the_download(tmp_path: Path) -> None:
    with open_keyed_api(tmp_path) as api:
        job = api.complete(ALICE)
        for prompt in ("a\r\nX-Evil: 1", 'a"; filename="evil.exe', "../../evil", "\u202eevil", "é" * 500):
            with api.services.store.database.writing() as connection:
                update = "UPDATE jobs SET params = json_set(params, '$.prompt', ?) WHERE id = ?"
                connection.exec_driver_sql(update, (prompt, job.id))
            answer = api.call(ALICE, "GET", f"/api/v1/outputs/{job.id}/download")
            assert answer.status_code == 200
            assert "x-evil" not in answer.headers
            assert re.fullmatch(r'attachment; filename="[\w.-]+\.mp4"', answer.headers["content-disposition"])
