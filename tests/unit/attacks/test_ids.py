"""The id of another owner's job, upload, batch or webhook in each parameter and field of the API."""

from collections.abc import Iterator
from typing import Any

import pytest

from deployments.jobs.api_keys import Scope
from tests.http_api import make_bare_api
from tests.keys import ALICE, BOB, KeyedApi, open_keyed_api
from tests.pictures import png

_SUBMIT = "/api/v1/generation/submit"
_SECRET = "a prompt that only its owner knows"
_DOCUMENT = make_bare_api(needs_keys=True).openapi()
_OPERATIONS = [
    (method.upper(), path, operation)
    for path, item in _DOCUMENT["paths"].items()
    for method, operation in item.items()
    if operation.get("security", [{}])[0].get("bearer", [""])[0] in (Scope.READ, Scope.SUBMIT)
]
_ASKING = ("/api/v1/models/", "/api/v1/system/health", "/v1/videos/sync")
"""Beginnings of the paths of routes that ask deployments or wait for a video, which these tests have not."""


def _resolve(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return _DOCUMENT["components"]["schemas"][name] if name else schema


def _list_fields(operation: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the fields of a body that may hold an id, each with the type of the value that does."""
    content = operation.get("requestBody", {}).get("content", {})
    schema = _resolve(content.get("application/json", {}).get("schema", {}))
    found = [(name, kind) for name, field in schema.get("properties", {}).items() for kind in _list_types(field)]
    return sorted({*found, *((name, "object") for name, _ in found if name in _INPUTS)})


def _list_types(field: dict[str, Any]) -> list[str]:
    """Returns which of the types `string`, `array` and `object` a field has, without texts that are one of a few."""
    choices = [_resolve(each) for each in field.get("anyOf", [field])]
    types = [choice.get("type", "object") for choice in choices if "enum" not in choice and "const" not in choice]
    return [each for each in types if each in _WRAPPED]


_INPUTS = ("image", "end_image", "video", "input_reference", "image_reference", "image_url", "last_image")
_WRAPPED: dict[str, Any] = {
    "string": lambda found: found,
    "array": lambda found: [found],
    "object": lambda found: {"id": found},
}
_QUERIES = [
    (path, parameter["name"])
    for method, path, operation in _OPERATIONS
    for parameter in operation.get("parameters", [])
    if method == "GET" and parameter["in"] == "query" and "{" not in path and not path.startswith(_ASKING)
]
_BODIES = [
    (path, _list_fields(operation))
    for method, path, operation in _OPERATIONS
    if method == "POST" and "{" not in path and not path.startswith(_ASKING) and _list_fields(operation)
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedApi]:
    with open_keyed_api(tmp_path_factory.mktemp("ids")) as opened:
        yield opened


@pytest.fixture(scope="module")
def ids(api: KeyedApi) -> list[str]:
    """The ids of what Alice owns."""
    job = api.complete(ALICE)
    pending = api.call(ALICE, "POST", _SUBMIT, json={"prompt": _SECRET, "num_outputs": 2}).json()
    upload = api.call(ALICE, "POST", "/api/v1/uploads", files={"file": png()}).json()["id"]
    [webhook] = api.services.store.deliveries.page(job_id=job.id)
    return [job.id, pending["task_id"], upload, pending["batch_id"], webhook.id]


def _make_unknown(value: str) -> str:
    return value[:-6] + "000000"


def _check(api: KeyedApi, ids: list[str], value: str, method: str, path: str, options: Any) -> None:
    """Checks that Bob gets the same response for one of Alice's ids as for an unknown one, and learns no other id."""
    unknown = _make_unknown(value)
    known, other = (api.call(BOB, method, path, **options(found)) for found in (value, unknown))
    assert known.status_code == other.status_code, (value, known.text, other.text)
    assert [secret for secret in (_SECRET, *ids) if secret in known.text.replace(value, "")] == []
    if not known.is_success:
        assert _without(known.text, value) == _without(other.text, unknown)


def _without(answer: str, value: str) -> str:
    """Replaces an id, and the beginning of one at which a message ends."""
    for length in range(len(value), 9, -1):
        answer = answer.replace(value[:length], "ID")
    return answer


@pytest.mark.parametrize(("path", "name"), _QUERIES)
def test_an_id_of_another_owner_in_a_query_is_like_an_unknown_one(
    path: str, name: str, api: KeyedApi, ids: list[str]
) -> None:
    for value in ids:
        _check(api, ids, value, "GET", path, lambda found: {"params": {name: found}})


@pytest.mark.parametrize(("path", "fields"), _BODIES, ids=[path for path, _ in _BODIES])
def test_an_id_of_another_owner_in_a_body_is_like_an_unknown_one(
    path: str, fields: list[tuple[str, str]], api: KeyedApi, ids: list[str]
) -> None:
    for field, kind in fields:
        for value in (ids[0], ids[2]):
            wrap = _WRAPPED[kind]
            body = lambda found: {"json": {"prompt": "a cat"} | {field: wrap(found)}}  # noqa: B023, E731
            _check(api, ids, value, "POST", path, body)


def test_the_walk_covers_the_parameters_and_fields_that_take_ids() -> None:
    assert {("/api/v1/queue", "after"), ("/api/v1/webhooks", "task_id"), ("/v1/videos", "after")} <= set(_QUERIES)
    covered = {(path, field) for path, fields in _BODIES for field, _ in fields}
    assert {
        (_SUBMIT, "image_path"),
        ("/api/v1/generation/estimate", "video_path"),
        ("/v1/videos", "input_reference"),
        ("/v1/videos/edits", "video"),
        ("/v1/videos/extensions", "video"),
        ("/api/v1/queue/reorder", "task_ids"),
    } <= covered
