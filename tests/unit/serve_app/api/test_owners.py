"""Jobs and all that belongs to them exist for their owner and for administrators only."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from deployments.jobs.api_keys import Scope
from deployments.jobs.cleaning import Cleaner
from deployments.jobs.retention import Retention
from serve_app.api.access.callers import find_scope
from tests.http_api import make_bare_api
from tests.keys import ADMIN, ALICE, BOB, READER, KeyedApi, open_keyed_api
from tests.pictures import png

_APP = make_bare_api(needs_keys=True)
_OPERATIONS = [
    (method, str(route.path_format))
    for route in iter_route_contexts(_APP.routes)
    for method in sorted(route.methods or ())
    if find_scope(route) in (Scope.READ, Scope.SUBMIT)
]
_OWNED = ("{task_id}", "{video_id}", "{batch_id}", "{webhook_id}", "{upload_id}")
_NAMING = [(method, path) for method, path in _OPERATIONS if any(name in path for name in _OWNED)]
"""Routes whose path names something that has an owner."""
_ASKING = ("/api/v1/models/", "/api/v1/system/health")
"""Beginnings of the paths of routes that ask deployments, which these tests have not. They name no jobs."""
_LISTS = [path for method, path in _OPERATIONS if method == "GET" and "{" not in path and not path.startswith(_ASKING)]
_NOT_FOUND = ("job_not_found", "batch_not_found", "webhook_not_found", "upload_not_found")
_SUBMIT = "/api/v1/generation/submit"
_PROMPT = "of alice"


@pytest.fixture
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedApi]:
    with open_keyed_api(tmp_path_factory.mktemp("owners")) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedApi]:
    """An API for tests that change nothing that others look at."""
    with open_keyed_api(tmp_path_factory.mktemp("shared")) as opened:
        yield opened


def _make_owned(api: KeyedApi) -> dict[str, str]:
    """Makes a completed job, a batch, a webhook and an upload of Alice; returns their ids by the names in paths."""
    job = api.complete(ALICE)
    upload = api.call(ALICE, "POST", "/api/v1/uploads", files={"file": png()}).json()["id"]
    answer = api.call(ALICE, "POST", _SUBMIT, json={"prompt": _PROMPT, "num_outputs": 2}).json()
    [webhook] = api.services.store.deliveries.page(job_id=job.id)
    of_job = {"task_id": job.id, "video_id": job.id, "webhook_id": webhook.id}
    return of_job | {"batch_id": answer["batch_id"], "upload_id": upload}


def _webhook_ids(answer: Any) -> list[str]:
    return [item["id"] for item in answer.json()["webhooks"]]


@pytest.mark.parametrize(("method", "path"), _NAMING, ids=[f"{method} {path}" for method, path in _NAMING])
def test_an_id_of_another_owner_is_answered_like_an_unknown_id(method: str, path: str, shared: KeyedApi) -> None:
    ids = _make_owned(shared)
    unknown = {name: value[:-6] + "000000" for name, value in ids.items()}
    body = {"json": {"prompt": "a cat"}} if path.endswith("remix") else {"json": {}} if method == "PATCH" else {}
    stranger, nobody = (shared.call(BOB, method, path.format(**named), **body) for named in (ids, unknown))
    assert stranger.status_code == nobody.status_code == 404
    assert stranger.json()["error"]["code"] in _NOT_FOUND
    assert _without(stranger.text, ids) == _without(nobody.text, unknown)
    for name in (ADMIN, ALICE):
        answer = shared.call(name, method, path.format(**_make_owned(shared)), **body)
        assert [code for code in (*_NOT_FOUND, "scope_missing") if code in answer.text] == []


def _without(answer: str, ids: dict[str, str]) -> str:
    for value in ids.values():
        answer = answer.replace(value, "ID")
    return answer


@pytest.mark.parametrize("path", _LISTS)
def test_a_listing_shows_and_counts_nothing_of_other_owners(path: str, shared: KeyedApi) -> None:
    ids = _make_owned(shared)
    shared.submit(ALICE)
    answer = shared.call(BOB, "GET", path, params={"active_only": False} if path.endswith("poll") else {})
    assert answer.status_code == 200, answer.text
    assert _PROMPT not in answer.text
    assert [value for value in ids.values() if value in answer.text] == []


def test_the_listings_of_an_owner_and_of_an_administrator_are_complete(api: KeyedApi) -> None:
    ids = _make_owned(api)
    pending = api.submit(ALICE)
    own = api.submit(BOB)
    for name, mine, total in ((ALICE, True, 4), (ADMIN, True, 5), (BOB, False, 1)):
        queue = api.call(name, "GET", "/api/v1/queue").json()
        assert (queue["total_tasks"], len(queue["tasks"])) == (total, total)
        assert queue["completed_tasks"] == int(mine)
        active = api.call(name, "GET", "/api/v1/queue/poll").json()
        assert [task["id"] for task in active["tasks"]].count(pending) == int(mine)
        outputs = api.call(name, "GET", "/api/v1/outputs").json()
        assert (outputs["total_count"], outputs["total_size_mb"]) == ((1, 1.0) if mine else (0, 0.0))
        videos = api.call(name, "GET", "/v1/videos").json()["data"]
        assert len(videos) == total
        assert _webhook_ids(api.call(name, "GET", "/api/v1/webhooks")) == ([ids["webhook_id"]] if mine else [])
    owners = {task["id"]: task["owner"] for task in api.call(ADMIN, "GET", "/api/v1/queue").json()["tasks"]}
    assert (owners[pending], owners[own]) == (ALICE, BOB)
    position = api.call(BOB, "GET", f"/api/v1/generation/{own}").json()["queue_position"]
    assert position == 4, "the position counts the jobs of all owners"


def test_the_running_job_of_another_owner_is_not_the_current_one(api: KeyedApi) -> None:
    job_id = api.submit(ALICE)
    assert api.services.store.runner.claim(job_id, lease_seconds=60) is not None
    found = {name: api.call(name, "GET", "/api/v1/queue").json()["current_task"] for name in (ALICE, BOB, ADMIN)}
    assert found[BOB] is None
    assert found[ALICE]["id"] == found[ADMIN]["id"] == job_id


def test_a_page_does_not_continue_after_a_job_of_another_owner(api: KeyedApi) -> None:
    ids = _make_owned(api)
    deleted = api.submit(ALICE)
    assert api.call(ALICE, "DELETE", f"/api/v1/queue/{deleted}").status_code == 200
    for path in ("/api/v1/queue", "/api/v1/outputs", "/v1/videos"):
        for after in (ids["video_id"], deleted):
            assert api.call(BOB, "GET", path, params={"after": after}).status_code == 404
            assert api.call(ALICE, "GET", path, params={"after": after}).status_code == 200
    page = {"after": ids["webhook_id"]}
    assert api.call(BOB, "GET", "/api/v1/webhooks", params=page).status_code == 404
    assert api.call(ALICE, "GET", "/api/v1/webhooks", params=page).status_code == 200


def test_a_range_of_another_owners_video_is_not_found(api: KeyedApi) -> None:
    path = f"/api/v1/outputs/{api.complete(ALICE).id}/video"
    known = api.call(ALICE, "GET", path, headers={"range": "bytes=0-3"})
    assert (known.status_code, len(known.content)) == (206, 4)
    for headers in ({"range": "bytes=0-3"}, {"if-none-match": known.headers["etag"]}, {"if-none-match": "*"}):
        assert api.call(BOB, "GET", path, headers=headers).status_code == 404
    assert api.call(BOB, "HEAD", path).status_code == 404


def test_a_poll_with_the_entity_tag_of_another_key_gets_a_body(api: KeyedApi) -> None:
    tag = api.call(ALICE, "GET", "/api/v1/queue/poll").headers["etag"]
    assert api.call(ALICE, "GET", "/api/v1/queue/poll", headers={"if-none-match": tag}).status_code == 304
    other = api.call(BOB, "GET", "/api/v1/queue/poll", headers={"if-none-match": tag})
    assert other.status_code == 200
    assert "private" in other.headers["cache-control"]


@pytest.mark.parametrize(
    "use",
    [
        lambda video: ("/api/v1/generation/submit", {"image_path": video}),
        lambda video: ("/api/v1/generation/submit", {"video_path": video}),
        lambda video: ("/api/v1/generation/estimate", {"video_path": video}),
        lambda video: ("/v1/videos", {"input_reference": {"file_id": video}}),
        lambda video: ("/v1/videos/edits", {"video": {"id": video}}),
        lambda video: ("/v1/videos/extensions", {"video": {"id": video}}),
        lambda video: ("/v1/videos/sync", {"input_reference": {"file_id": video}}),
    ],
    ids=["image", "video", "estimate", "reference", "edit", "extension", "sync"],
)
def test_a_request_cannot_use_the_video_or_upload_of_another_owner(
    use: Callable[[str], tuple[str, dict[str, Any]]], api: KeyedApi
) -> None:
    video = api.complete(ALICE).id
    upload = api.call(ALICE, "POST", "/api/v1/uploads", files={"file": png()}).json()["id"]
    path, fields = use(video)
    answer = api.call(BOB, "POST", path, json={"prompt": "a cat"} | fields)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")
    path, fields = use(upload)
    answer = api.call(BOB, "POST", path, json={"prompt": "a cat"} | fields)
    assert answer.json()["error"]["code"] in ("unknown_upload", "job_not_found")
    assert api.call(BOB, "GET", "/api/v1/queue").json()["total_tasks"] == 0


def test_an_upload_belongs_to_each_owner_who_has_sent_it(api: KeyedApi) -> None:
    picture = png()
    fields = {"prompt": "a cat", "model_type": "tiny-i2v"}
    upload = api.call(ALICE, "POST", "/api/v1/uploads", files={"file": picture}).json()["id"]
    use = fields | {"image_path": upload}
    assert api.call(ALICE, "POST", _SUBMIT, json=use).status_code == 200
    assert api.call(ADMIN, "POST", _SUBMIT, json=use).status_code == 200
    assert api.call(BOB, "POST", _SUBMIT, json=use).json()["error"]["code"] == "unknown_upload"
    sent = api.call(BOB, "POST", _SUBMIT, data=fields, files={"image": picture})
    assert sent.status_code == 200, sent.text
    assert api.call(BOB, "POST", _SUBMIT, json=use).status_code == 200, "an input of an own job may be named"
    Cleaner(api.services.store, api.services.storage, Retention()).clean()
    assert api.call(BOB, "POST", _SUBMIT, json=use).status_code == 200


def test_two_owners_may_use_the_same_idempotency_key(api: KeyedApi) -> None:
    headers = {"idempotency-key": "one"}
    ids = {
        (name, prompt): api.call(name, "POST", _SUBMIT, json={"prompt": prompt}, headers=headers)
        for name in (ALICE, BOB)
        for prompt in ("a cat", "a cat", "a dog")
    }
    assert ids[ALICE, "a cat"].json()["task_id"] != ids[BOB, "a cat"].json()["task_id"]
    assert {answer.status_code for (_, prompt), answer in ids.items() if prompt == "a dog"} == {409}
    again = api.call(ALICE, "POST", _SUBMIT, json={"prompt": "a cat"}, headers=headers)
    assert again.json()["task_id"] == ids[ALICE, "a cat"].json()["task_id"]


def test_an_owner_clears_and_reorders_only_own_jobs(api: KeyedApi) -> None:
    ended = {name: api.complete(name).id for name in (ALICE, BOB)}
    first, second, third = api.submit(ALICE), api.submit(BOB), api.submit(ALICE)
    assert api.call(BOB, "POST", "/api/v1/queue/reorder", json={"task_ids": [third, second, first]}).status_code == 200
    order = [task["id"] for task in api.call(ADMIN, "GET", "/api/v1/queue/poll").json()["tasks"]]
    assert order == [first, second, third]
    api.call(ALICE, "POST", "/api/v1/queue/reorder", json={"task_ids": [third, first, second]})
    order = [task["id"] for task in api.call(ADMIN, "GET", "/api/v1/queue/poll").json()["tasks"]]
    assert order == [third, second, first]
    assert api.call(BOB, "POST", "/api/v1/queue/clear").json()["cleared"] == 1
    listed = [task["id"] for task in api.call(ADMIN, "GET", "/api/v1/queue").json()["tasks"]]
    assert ended[ALICE] in listed
    assert ended[BOB] not in listed
    api.call(ADMIN, "POST", "/api/v1/queue/reorder", json={"task_ids": [first, second, third]})
    order = [task["id"] for task in api.call(ADMIN, "GET", "/api/v1/queue/poll").json()["tasks"]]
    assert order == [first, second, third]
    assert api.call(ADMIN, "POST", "/api/v1/queue/clear").json()["cleared"] == 1


def test_a_job_has_the_owner_of_its_key_so_that_the_queue_shares_fairly(api: KeyedApi) -> None:
    source = api.complete(ALICE).id
    remix = api.call(ADMIN, "POST", f"/v1/videos/{source}/remix", json={"prompt": "a dog"}).json()["id"]
    video = api.call(ALICE, "POST", "/v1/videos", json={"prompt": "a cat"}).json()["id"]
    owners = [api.services.store.reader.get(job_id).owner for job_id in (api.submit(BOB), video, remix)]
    assert owners == [BOB, ALICE, ADMIN]


def test_webhooks_of_the_operator_are_for_administrators(api: KeyedApi) -> None:
    ids = _make_owned(api)
    with api.services.store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE webhook_deliveries SET trusted = 1")
    assert api.call(ALICE, "GET", f"/api/v1/webhooks/{ids['webhook_id']}").status_code == 404
    assert api.call(ALICE, "POST", f"/api/v1/webhooks/{ids['webhook_id']}/replay").status_code == 404
    assert _webhook_ids(api.call(ALICE, "GET", "/api/v1/webhooks")) == []
    assert _webhook_ids(api.call(ADMIN, "GET", "/api/v1/webhooks")) == [ids["webhook_id"]]


def test_a_lora_does_not_name_the_jobs_of_other_owners(api: KeyedApi) -> None:
    job_id = api.submit(ALICE, lora_path="tiny-neon")
    found = {
        name: api.call(name, "GET", "/api/v1/lora/tiny-neon/status").json()["jobs"] for name in (ALICE, BOB, ADMIN)
    }
    assert found == {ALICE: [job_id], BOB: [], ADMIN: [job_id]}


def test_a_socket_gets_the_states_and_changes_of_own_jobs_only(api: KeyedApi) -> None:
    before = api.submit(ALICE)
    with api.client.websocket_connect("/ws", headers=api.headers(BOB)) as socket:
        socket.send_json({"type": "subscribe", "data": {"topic": "generation_progress", "task_id": before}})
        during = api.submit(ALICE)
        api.call(ALICE, "POST", f"/api/v1/queue/{during}/cancel")
        api.call(ALICE, "POST", "/api/v1/queue/clear")
        api.call(ADMIN, "POST", "/api/v1/queue/pause")
        own = api.submit(BOB)
        received: list[dict[str, Any]] = []
        while not received or received[-1].get("task_id") != own:
            received.append(json.loads(socket.receive_text()))
    texts = json.dumps([message for message in received if message["type"] != "subscription_confirmed"])
    [error] = [message["data"] for message in received if message["type"] == "error"]
    assert error["code"] == "job_not_found"
    assert {message["task_id"] for message in received if message["type"] == "task_update"} == {own}
    assert during not in texts
    assert "cleared" not in texts
    assert '"paused": true' in texts
    counts = next(message["data"] for message in received if "total_tasks" in message["data"])
    assert counts["total_tasks"] == 0


@pytest.mark.parametrize("name", [ALICE, ADMIN])
def test_a_socket_of_the_owner_and_of_an_administrator_gets_the_changes(name: str, api: KeyedApi) -> None:
    with api.client.websocket_connect("/ws", headers=api.headers(name)) as socket:
        job_id = api.submit(ALICE)
        while socket.receive_json().get("task_id") != job_id:
            pass
        api.call(ALICE, "POST", f"/api/v1/queue/{job_id}/cancel")
        api.call(ALICE, "POST", "/api/v1/queue/clear")
        while "cleared" not in (data := socket.receive_json()["data"]):
            pass
    assert data == {"cleared": 1}


def test_tools_of_the_mcp_server_find_own_jobs_only(api: KeyedApi) -> None:
    video_id = api.complete(ALICE).id
    listed = {name: _call_tool(api, name, "list_videos", {})["videos"] for name in (ALICE, BOB, ADMIN, READER)}
    assert {name: [job["video_id"] for job in jobs] for name, jobs in listed.items()} == {
        ALICE: [video_id],
        BOB: [],
        ADMIN: [video_id],
        READER: [],
    }
    for tool in ("get_video", "wait_for_video", "cancel_video", "get_video_link"):
        assert _call_tool(api, BOB, tool, {"video_id": video_id})["error"]["code"] == "job_not_found"
    links = _call_tool(api, ALICE, "get_video_link", {"video_id": video_id})
    urls = [links[f"{name}_url"] for name in ("video", "download", "thumbnail", "last_frame")]
    assert [api.client.get(url).status_code for url in urls] == [200] * 4, "they are signed, and need no key"
    fields = {"prompt": "a cat", "video": video_id}
    assert _call_tool(api, BOB, "create_video", fields)["error"]["code"] == "job_not_found"
    picture = base64.b64encode(png()).decode()
    made = _call_tool(api, BOB, "create_video", {"prompt": "a cat", "model": "tiny-i2v", "image": picture})
    assert api.services.store.reader.get(made["video_id"]).owner == BOB


def _call_tool(api: KeyedApi, name: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    accepted = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    answer = api.call(name, "POST", "/mcp", json=body, headers=accepted)
    data = next(line for line in answer.text.splitlines() if line.startswith("data: {"))
    found: dict[str, Any] = json.loads(data.removeprefix("data: "))["result"]["structuredContent"]
    return found
