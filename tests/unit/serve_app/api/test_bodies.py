"""Form fields with brackets become nested values, and contradictory fields are rejected."""

import asyncio
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve_app.api.http import bodies
from serve_app.api.http.bodies import put_field
from serve_app.api.services import Services
from tests.pictures import png
from tests.rejections import check_rejection
from wan22_bridge.errors import InvalidRequest


def _put(*pairs: tuple[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        put_field(fields, name, value)
    return fields


def test_brackets_become_nested_values() -> None:
    assert _put(("a", "1"), ("m[k]", "2"), ("m[l]", "3"), ("t[]", "4"), ("t[]", "5"), ("l[0][name]", "6")) == {
        "a": "1",
        "m": {"k": "2", "l": "3"},
        "t": ["4", "5"],
        "l": {"0": {"name": "6"}},
    }


@pytest.mark.parametrize(
    "pairs",
    [
        [("", "1")],
        [("[a]", "1")],
        [("a", "1"), ("a[b]", "2")],
        [("a", "1"), ("a[]", "2")],
        [("a[][b]", "1")],
        [("a" + "[b]" * 50, "1")],
    ],
)
def test_contradictory_fields_are_rejected(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidRequest, match="can't be read"):
        _put(*pairs)


def test_an_upload_with_another_field_is_rejected(client: TestClient, services: Services) -> None:
    stored, files = set(services.settings.data_dir.rglob("*")), {"file": ("a.png", png())}
    answer = client.post("/api/v1/uploads", files=files, data={"purpose": "video"})
    assert check_rejection(answer, 400, "unknown_field")["param"] == "purpose"
    assert set(services.settings.data_dir.rglob("*")) == stored
    assert client.post("/api/v1/uploads", files=files).status_code == 200
    assert set(services.settings.data_dir.rglob("*")) > stored


def test_long_json_is_checked_in_a_thread(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = list[bool]()

    def check(text: str) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            threads.append(True)
        else:
            threads.append(False)

    monkeypatch.setattr(bodies, "check_json", check)
    for size in (10, 1_100_000):
        client.post("/api/v1/generation/submit", json={"prompt": "x" * size})
    assert threads == [False, True]


def test_a_repeated_field_is_a_list() -> None:
    assert _put(("seeds", "1"), ("seeds", "2"), ("seeds", "3"), ("fps", "16"), ("fps", "16")) == {
        "seeds": ["1", "2", "3"],
        "fps": "16",
    }


@pytest.mark.parametrize("seeds", ["5", ["5", "6"], "[5, 6]", ["5"]])
def test_a_form_sends_a_list_as_json_or_item_by_item(client: TestClient, seeds: Any) -> None:
    answer = client.post(
        "/api/v1/generation/submit", data={"prompt": "a fox", "model_type": "t2v", "seeds": seeds}
    ).raise_for_status()
    ids = answer.json()["task_ids"] or [answer.json()["task_id"]]
    found = [client.get(f"/api/v1/generation/{task_id}").json()["seed"] for task_id in ids]
    assert found == ([5] if "6" not in str(seeds) else [5, 6])


def test_a_single_value_that_is_sent_twice_is_rejected(client: TestClient) -> None:
    answer = client.post("/api/v1/generation/submit", data={"prompt": "a fox", "fps": ["16", "24"]})
    assert check_rejection(answer, 400, "invalid_value")["param"] == "fps"
