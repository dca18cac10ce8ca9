"""The routes with which an administrator creates and ends keys."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.http_api import open_api
from tests.keys import ADMIN, ALICE, KeyedApi, open_keyed_api
from tests.rejections import check_rejection
from tests.service import wait_until

_KEYS = "/api/v1/keys"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KeyedApi]:
    with open_keyed_api(tmp_path) as opened:
        yield opened


def _listed(api: KeyedApi, key_id: str) -> Any:
    [found] = [key for key in api.call(ADMIN, "GET", _KEYS).json()["keys"] if key["id"] == key_id]
    return found


def _status(api: KeyedApi, key: str) -> int:
    return int(api.client.get("/api/v1/queue", headers={"x-api-key": key}).status_code)


def test_an_administrator_creates_a_key_that_is_shown_once(api: KeyedApi) -> None:
    answer = api.call(ADMIN, "POST", _KEYS, json={"owner": "carol", "scopes": ["read"], "expires_days": 1})
    made = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert (made["owner"], made["scopes"], made["status"]) == ("carol", ["read"], "valid")
    wait_until(lambda: _status(api, made["key"]) == 200)
    listing = api.call(ADMIN, "GET", _KEYS)
    assert made["key"].split("_")[2] not in listing.text
    assert "secret" not in listing.text
    assert _listed(api, made["id"])["expires_at"] == made["expires_at"]


def test_an_administrator_revokes_a_key(api: KeyedApi) -> None:
    key_id = api.keys[ALICE].split("_")[1]
    assert api.call(ADMIN, "POST", f"{_KEYS}/{key_id}/revoke").json()["status"] == "revoked"
    wait_until(lambda: _status(api, api.keys[ALICE]) == 401)
    assert _listed(api, key_id)["status"] == "revoked"
    check_rejection(api.call(ADMIN, "POST", f"{_KEYS}/{'0' * 16}/revoke"), 404, "api_key_not_found")


def test_an_administrator_rotates_a_key(api: KeyedApi) -> None:
    key_id = api.keys[ALICE].split("_")[1]
    made = api.call(ADMIN, "POST", f"{_KEYS}/{key_id}/rotate", json={"overlap_hours": 0}).json()
    assert (made["owner"], made["scopes"]) == (ALICE, ["read", "submit"])
    wait_until(lambda: (_status(api, api.keys[ALICE]), _status(api, made["key"])) == (401, 200))
    check_rejection(api.call(ADMIN, "POST", f"{_KEYS}/{key_id}/rotate"), 409, "api_key_ended")


@pytest.mark.parametrize("action", ["rotate", "revoke"])
def test_an_administrator_who_ends_their_own_key_gets_the_response(
    action: str, api: KeyedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("authentication", "ring"):
        monkeypatch.setattr(f"serve_app.api.access.{module}.REFRESH_SECONDS", 0)
    key_id = api.keys[ADMIN].split("_")[1]
    body = {"overlap_hours": 0} if action == "rotate" else None
    answer = api.call(ADMIN, "POST", f"{_KEYS}/{key_id}/{action}", json=body)
    assert answer.status_code == 200
    assert _status(api, api.keys[ADMIN]) == 401
    if action == "rotate":
        assert _status(api, answer.json()["key"]) == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "owner"),
        ({"owner": "no name"}, "owner"),
        ({"owner": "a" * 65}, "owner"),
        ({"owner": "carol", "scopes": []}, "scopes"),
        ({"owner": "carol", "scopes": ["all"]}, "scopes.0"),
        ({"owner": "carol", "expires_days": 0}, "expires_days"),
        ({"owner": "carol", "limits": {}}, "limits"),
    ],
    ids=str,
)
def test_an_invalid_key_is_rejected(body: dict[str, Any], param: str, api: KeyedApi) -> None:
    before = len(api.services.store.keys.all())
    answer = api.call(ADMIN, "POST", _KEYS, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert len(api.services.store.keys.all()) == before


def test_a_service_without_keys_creates_none(tmp_path: Path) -> None:
    """Everyone may call it, and a key would be valid once the service needs keys."""
    with open_api(tmp_path) as client:
        check_rejection(client.post(_KEYS, json={"owner": "carol", "scopes": ["admin"]}), 409, "keys_off")
        check_rejection(client.post(f"{_KEYS}/{'0' * 16}/rotate"), 409, "keys_off")
        assert client.get(_KEYS).json() == {"keys": []}
